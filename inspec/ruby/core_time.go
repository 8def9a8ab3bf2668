package ruby

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

// localZone is the zone of times that name none. The host's own isn't a
// profile's business, so it is UTC; only the words are those of a local time.
var localZone = time.FixedZone("UTC", 0)

// strftime formats t as Ruby does; date is for a Date or DateTime.
func strftime(t time.Time, f string, date bool) string {
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		if f[i] != '%' || i+1 >= len(f) {
			b.WriteByte(f[i])
			continue
		}
		i++
		flag := byte(0)
		start, colons := i-1, 0
		for i+1 < len(f) && strings.IndexByte("-0^_#:", f[i]) >= 0 {
			if flag = f[i]; flag == ':' {
				colons++
			}
			i++
		}
		width := 0
		for i+1 < len(f) && isDigit(f[i]) {
			width = min(width*10+int(f[i]-'0'), 100)
			i++
		}
		text := false // padded with blanks
		num := func(n, w int) string {
			if width > 0 {
				w = width
			}
			if n < 0 {
				w++
			}
			switch flag {
			case '-':
				return fmt.Sprint(n)
			case '_':
				return fmt.Sprintf("%*d", w, n)
			}
			return fmt.Sprintf("%0*d", w, n)
		}
		blank := func(n int) string {
			switch flag {
			case 0:
				flag = '_'
			case '0':
				return fmt.Sprintf("%0*d", max(width, 2), n)
			}
			return num(n, 2)
		}
		s := ""
		switch f[i] {
		case 'Y':
			s = num(t.Year(), 4)
		case 'C':
			s = num(t.Year()/100, 2)
		case 'y':
			s = num(t.Year()%100, 2)
		case 'm':
			s = num(int(t.Month()), 2)
		case 'd':
			s = num(t.Day(), 2)
		case 'e':
			s = blank(t.Day())
		case 'j':
			s = num(t.YearDay(), 3)
		case 'H':
			s = num(t.Hour(), 2)
		case 'I':
			s = num((t.Hour()+11)%12+1, 2)
		case 'k':
			s = blank(t.Hour())
		case 'l':
			s = blank((t.Hour()+11)%12 + 1)
		case 'M':
			s = num(t.Minute(), 2)
		case 'S':
			s = num(t.Second(), 2)
		case 'L':
			s = fmt.Sprintf("%03d", t.Nanosecond()/1e6)
		case 'N':
			s = fmt.Sprintf("%09d", t.Nanosecond())
			if width > 0 && width < 9 {
				s = s[:width]
			}
		case 'z':
			s = t.Format([]string{"-0700", "-07:00", "-07:00:00"}[min(colons, 2)])
		case 'Z':
			text = true
			if name, _ := t.Zone(); !date {
				s = name
			} else {
				s = t.Format("-07:00")
			}
			if flag == '#' {
				s = strings.ToLower(s)
			}
		case 'Q':
			if s = f[start : i+1]; date {
				s = fmt.Sprint(t.UnixMilli())
			}
		case 'A':
			s, text = t.Weekday().String(), true
		case 'a':
			s, text = t.Weekday().String()[:3], true
		case 'B':
			s, text = t.Month().String(), true
		case 'b', 'h':
			s, text = t.Month().String()[:3], true
		case 'p':
			if s = t.Format("PM"); flag == '#' {
				s = strings.ToLower(s)
			}
		case 'P':
			s = t.Format("pm")
		case 'u':
			s = fmt.Sprint((int(t.Weekday())+6)%7 + 1)
		case 'w':
			s = fmt.Sprint(int(t.Weekday()))
		case 'V':
			_, w := t.ISOWeek()
			s = num(w, 2)
		case 'G':
			y, _ := t.ISOWeek()
			s = num(y, 4)
		case 'g':
			y, _ := t.ISOWeek()
			s = num(y%100, 2)
		case 's':
			s = fmt.Sprint(t.Unix())
		case 'F':
			s = t.Format("2006-01-02")
		case 'r':
			s = t.Format("03:04:05 PM")
		case 'U':
			s = num((t.YearDay()+6-int(t.Weekday()))/7, 2)
		case 'W':
			s = num((t.YearDay()+6-(int(t.Weekday())+6)%7)/7, 2)
		case 'v':
			s = strings.ToUpper(t.Format("_2-Jan-2006"))
		case '+':
			if s = f[start : i+1]; date {
				s = t.Format("Mon Jan _2 15:04:05 -07:00 2006")
			}
		case 'T', 'X':
			s = t.Format("15:04:05")
		case 'R':
			s = t.Format("15:04")
		case 'D', 'x':
			s = t.Format("01/02/06")
		case 'c':
			s = t.Format("Mon Jan _2 15:04:05 2006")
		case 'n':
			s = "\n"
		case 't':
			s = "\t"
		case '%':
			s = "%"
		default:
			s = f[start : i+1]
		}
		if text && flag != '-' && len(s) < width {
			pad := " "
			if flag == '0' {
				pad = "0"
			}
			s = strings.Repeat(pad, width-len(s)) + s
		}
		if flag == '^' {
			s = strings.ToUpper(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

// strptime is the layout of Go for a format of strftime; "" when there is none.
func strptimeLayout(f string) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "1", 'd': "2", 'e': "_2", 'H': "15", 'M': "4", 'S': "5", 'I': "3", 'p': "PM",
		'b': "Jan", 'B': "January", 'h': "Jan", 'a': "Mon", 'A': "Monday", 'z': "-0700", 'Z': "MST",
		'F': "2006-1-2", 'T': "15:4:5", 'D': "1/2/06", 'j': "002", 'R': "15:4", '%': "%",
	}
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		if f[i] != '%' || i+1 >= len(f) {
			b.WriteByte(f[i])
			continue
		}
		i++
		if f[i] == '-' && i+1 < len(f) {
			i++
		}
		l, ok := layouts[f[i]]
		if !ok {
			return ""
		}
		b.WriteString(l)
	}
	return b.String()
}

// isoDate is how texts look that Date.iso8601 takes.
var isoDate = late(`(?i)^\s*[-+\dw][-+\d:.,wtz\s]*$`)

func (in *Interp) newTime(t time.Time) Value { return &Object{Class: in.cTime, Data: t} }
func (in *Interp) newDate(t time.Time) Value {
	return &Object{Class: in.cDate, Data: time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)}
}

// zone is what Time's methods take for one: +hh:mm, UTC, Z, or seconds.
func (in *Interp) zone(v Value) (*time.Location, error) {
	switch v := v.(type) {
	case nil:
		return localZone, nil
	case int64:
		if v > -86400 && v < 86400 {
			return time.FixedZone("", int(v)), nil
		}
	case *String:
		if v.s == "UTC" || v.s == "Z" {
			return time.UTC, nil
		}
		for _, l := range []string{"-07:00", "-0700", "-07:00:00"} {
			if t, err := time.Parse(l, v.s); err == nil {
				_, off := t.Zone()
				return time.FixedZone("", off), nil
			}
		}
	}
	return time.UTC, in.Raise(in.eArgument, "%s", `"+HH:MM", "-HH:MM", "UTC" or "A".."I","K".."Z" expected for utc_offset: `+in.ToS(v))
}

// seconds is a number as a duration.
func (in *Interp) seconds(v Value) (time.Duration, error) {
	if !isNumber(v) {
		return 0, in.Raise(in.eType, "can't convert %s into an exact number", in.className(in.ClassOf(v)))
	}
	if n, ok := v.(int64); ok && n > -1<<33 && n < 1<<33 {
		return time.Duration(n) * time.Second, nil
	}
	if r, ok := v.(*big.Rat); ok {
		if n := floorRat(new(big.Rat).Mul(r, big.NewRat(1e9, 1))); n.IsInt64() {
			return time.Duration(n.Int64()), nil
		}
	}
	return time.Duration(floatOf(v) * 1e9), nil
}

// later is t and as many seconds as v says, times sign.
func (in *Interp) later(t time.Time, v Value, sign int64) (time.Time, error) {
	if n := floatOf(v); !isNumber(v) || n > -1<<33 && n < 1<<33 {
		d, err := in.seconds(v)
		return t.Add(time.Duration(sign) * d), err
	}
	// More than a Duration holds: what never ends is often said by a year like 9999.
	r, err := in.toRat(v)
	if err != nil {
		return t, err
	}
	whole := floorRat(r)
	if whole.BitLen() > 50 {
		return t, in.Raise(in.eRange, "%s", "time out of range: "+in.Inspect(v))
	}
	rest := new(big.Rat).Sub(r, new(big.Rat).SetInt(whole))
	nanos := floorRat(rest.Mul(rest, big.NewRat(1e9, 1)))
	return time.Unix(t.Unix()+sign*whole.Int64(), int64(t.Nanosecond())+sign*nanos.Int64()).In(t.Location()), nil
}

// dateZone is what DateTime's methods take for a zone: its name, or a part of a
// day.
func (in *Interp) dateZone(v Value) (*time.Location, error) {
	if isNumber(v) {
		d, err := in.seconds(v)
		off := d * 86400 / time.Second
		if err != nil || off <= -86400 || off >= 86400 {
			return time.UTC, err
		}
		return time.FixedZone("", int(off)), nil
	}
	if s, ok := v.(*String); ok {
		for _, l := range []string{"-07:00", "-0700", "-07", "-07:00:00", "Z", "MST"} {
			if t, err := time.Parse(l, s.s); err == nil {
				if _, off := t.Zone(); off != 0 {
					return time.FixedZone("", off), nil
				}
				return time.UTC, nil
			}
		}
		return time.UTC, nil
	}
	return nil, in.Raise(in.eType, "invalid offset")
}

// zoneName is the name of t's zone; nil when it is a mere offset.
func zoneName(t time.Time) Value {
	if name, _ := t.Zone(); name != "" {
		return NewString(name)
	}
	return nil
}

// unixRat is the time since the epoch, in seconds.
func unixRat(t time.Time) *big.Rat {
	r := big.NewRat(int64(t.Nanosecond()), 1e9)
	return r.Add(r, new(big.Rat).SetInt64(t.Unix()))
}

func (in *Interp) bootTime() {
	in.cTime = in.DefineClass(nil, "Time", nil)
	in.cDate = in.DefineClass(nil, "Date", nil)
	in.cDateTime = in.DefineClass(nil, "DateTime", in.cDate)
	in.cTime.Include(in.cComparable)
	in.cDate.Include(in.cComparable)
	in.DefineClass(in.cDate, "Error", in.eArgument)
	self := func(c *Call) time.Time {
		t, _ := c.Self.(*Object).Data.(time.Time)
		return t
	}
	timeOf := func(v Value) (time.Time, bool) {
		o, ok := v.(*Object)
		if !ok {
			return time.Time{}, false
		}
		t, ok := o.Data.(time.Time)
		return t, ok
	}
	// civil reads year, month, day, hour, minute and second; a negative day or
	// month of a date counts from the end.
	civil := func(c *Call, loc *time.Location) (time.Time, error) {
		date := c.Self != Value(in.cTime)
		wrong := func(what string) (time.Time, error) {
			if date {
				return time.Time{}, c.In.Raise(c.In.Class("Date::Error"), "invalid date")
			}
			return time.Time{}, c.In.Raise(c.In.eArgument, "%s", what+" out of range")
		}
		f := [6]int64{1970, 1, 1, 0, 0, 0}
		if date {
			f[0] = -4712
		}
		nanos := 0
		for i := range min(len(c.Args), 6) {
			switch a := c.Args[i].(type) {
			case nil:
				continue
			case *String:
				if at := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(a.s)); i == 1 && len(a.s) == 3 && at >= 0 {
					f[i] = int64(at/3 + 1)
				} else {
					f[i], _ = leadingInt(a.s, 10).(int64)
				}
				continue
			case float64:
				if i == 5 {
					nanos = int(math.Round((a - math.Floor(a)) * 1e9))
				}
			case *big.Rat:
				if rest := new(big.Rat).Sub(a, new(big.Rat).SetInt(floorRat(a))); i == 5 {
					nanos = int(math.Round(floatOf(rest) * 1e9))
				}
			}
			n, err := c.In.num(c.Args[i])
			if err != nil {
				return time.Time{}, err
			}
			f[i] = n
		}
		if f[0] < -9999 || f[0] > 99999 {
			return wrong("argument")
		}
		if date && f[1] < 0 {
			f[1] += 13
		}
		if f[1] < 1 || f[1] > 12 {
			return wrong("mon")
		}
		last := int64(time.Date(int(f[0]), time.Month(f[1]+1), 0, 0, 0, 0, 0, time.UTC).Day())
		if date && f[2] < 0 {
			f[2] += last + 1
		}
		if f[2] < 1 || f[2] > 31 || date && f[2] > last || f[3] < 0 || f[3] > 24 || f[4] < 0 || f[4] > 59 || f[5] < 0 || f[5] > 60 {
			return wrong("argument")
		}
		return time.Date(int(f[0]), time.Month(f[1]), int(f[2]), int(f[3]), int(f[4]), int(f[5]), nanos, loc), nil
	}
	kindOf := func(c *Call) *Class { return c.Self.(*Class) }

	tm := in.singletonClass(in.cTime)
	tm.DefN("now", 0, 1, func(c *Call) (Value, error) { return c.In.newTime(time.Now().In(localZone)), nil })
	tm.DefN("at", 1, 3, func(c *Call) (Value, error) {
		if t, ok := timeOf(c.Args[0]); ok {
			return c.In.newTime(t), nil
		}
		t, err := c.In.later(time.Unix(0, 0).In(localZone), c.Args[0], 1)
		if h, ok := c.Args[len(c.Args)-1].(*Hash); ok && err == nil {
			zone, _ := h.Get(Symbol("in"))
			loc, zerr := c.In.zone(zone)
			return c.In.newTime(t.In(loc)), zerr
		}
		return c.In.newTime(t), err
	})
	for _, n := range []string{"new", "mktime", "local", "utc", "gm"} {
		tm.Def(n, func(c *Call) (Value, error) {
			if len(c.Args) == 0 {
				return c.In.newTime(time.Now().In(localZone)), nil
			}
			loc := localZone
			if c.Name == "utc" || c.Name == "gm" {
				loc = time.UTC
			}
			if n := len(c.Args) - 1; c.Name == "new" {
				var zone Value
				if h, ok := c.Args[n].(*Hash); ok {
					zone, _ = h.Get(Symbol("in"))
					c.Args = c.Args[:n]
				} else if n == 6 {
					zone = c.Args[n]
				}
				var err error
				if loc, err = c.In.zone(zone); err != nil {
					return nil, err
				}
			}
			t, err := civil(c, loc)
			return c.In.newTime(t), err
		})
	}
	parse := func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		loc := time.UTC
		if kindOf(c) == in.cTime {
			loc = localZone
		}
		if len(s) > maxDateText {
			return nil, c.In.Raise(c.In.eArgument, "string length (%d) exceeds the limit %d", len(s), maxDateText)
		}
		if c.Name == "iso8601" && kindOf(c) == in.cTime && !strings.Contains(s, "T") {
			return nil, c.In.Raise(c.In.eArgument, "%s", "invalid xmlschema format: "+inspectString(s))
		}
		f := readDate(s)
		if kindOf(c) == in.cTime {
			if len(f.n) == 0 || len(f.n) == 1 && f.has("wday") {
				return nil, c.In.Raise(c.In.eArgument, "%s", "no time information in "+inspectString(s))
			}
			t, ok := f.time(loc)
			if !ok {
				return nil, c.In.Raise(c.In.eArgument, "argument out of range")
			}
			return c.In.newTime(t), nil
		}
		today := time.Now().In(localZone)
		day, ok := f.date(today)
		if clock := f.has("hour"); !ok && kindOf(c) == in.cDateTime && clock && len(f.n) <= 4 && !f.has("mon") && !f.has("mday") && !f.has("year") {
			day, ok = time.Date(today.Year(), today.Month(), today.Day(), 0, 0, 0, 0, time.UTC), true
		}
		wrong := kindOf(c) == in.cDateTime && (f.n["hour"] > 24 || f.n["min"] > 59 || f.n["sec"] > 60)
		if !ok || wrong || c.Name == "iso8601" && !isoDate().MatchString(s) {
			return nil, c.In.Raise(c.In.Class("Date::Error"), "invalid date")
		}
		if kindOf(c) == in.cDate {
			return c.In.newDate(day), nil
		}
		zone := f.location()
		if zone == nil {
			zone = time.UTC
		}
		t := time.Date(day.Year(), day.Month(), day.Day(), f.n["hour"], f.n["min"], min(f.n["sec"], 59), f.n["nanos"], zone)
		return &Object{Class: kindOf(c), Data: t}, nil
	}
	strptime := func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		f := "%F"
		if len(c.Args) > 1 {
			if f, err = c.strArg(1); err != nil {
				return nil, err
			}
		}
		var t time.Time
		if f == "%s" {
			n, _ := leadingInt(s, 10).(int64)
			t = time.Unix(n, 0).In(localZone)
		} else if l := strptimeLayout(f); l == "" {
			return nil, c.In.Raise(c.In.eArgument, "strptime format %q is not supported", f)
		} else if t, err = time.ParseInLocation(l, strings.Join(strings.Fields(s), " "), localZone); err != nil {
			if kindOf(c) == in.cTime {
				return nil, c.In.Raise(c.In.eArgument, "%s", "invalid date or strptime format - `"+s+"' `"+f+"'")
			}
			return nil, c.In.Raise(c.In.Class("Date::Error"), "invalid date")
		}
		if kindOf(c) == in.cDate {
			return c.In.newDate(t), nil
		}
		return &Object{Class: kindOf(c), Data: t}, nil
	}
	dm := in.singletonClass(in.cDate)
	for _, k := range []*Class{tm, dm} {
		for _, n := range []string{"parse", "iso8601"} {
			k.DefN(n, 1, 3, parse)
		}
		k.DefN("strptime", 1, 3, strptime)
	}
	dm.DefN("today", 0, 0, func(c *Call) (Value, error) { return c.In.newDate(time.Now().In(localZone)), nil })
	in.singletonClass(in.cDateTime).DefN("now", 0, 0, func(c *Call) (Value, error) {
		return &Object{Class: in.cDateTime, Data: time.Now().UTC()}, nil
	})
	for _, n := range []string{"new", "civil"} {
		dm.DefN(n, 0, 7, func(c *Call) (Value, error) {
			loc := time.UTC
			if len(c.Args) == 7 {
				var err error
				if loc, err = c.In.dateZone(c.Args[6]); err != nil {
					return nil, err
				}
			}
			t, err := civil(c, loc)
			return &Object{Class: kindOf(c), Data: t}, err
		})
	}
	for _, n := range []string{"valid_date?", "valid_civil?"} {
		dm.DefN(n, 3, 4, func(c *Call) (Value, error) {
			_, err := civil(c, time.UTC)
			return err == nil, nil
		})
	}

	for _, k := range []*Class{in.cTime, in.cDateTime} {
		for name, fn := range map[string]func(t time.Time) int{
			"hour": time.Time.Hour, "min": time.Time.Minute, "sec": time.Time.Second, "nsec": time.Time.Nanosecond,
			"usec": func(t time.Time) int { return t.Nanosecond() / 1000 },
		} {
			if strings.HasSuffix(name, "sec") && name != "sec" && k == in.cDateTime {
				continue
			}
			k.DefN(name, 0, 0, func(c *Call) (Value, error) { return int64(fn(self(c))), nil })
		}
	}
	for _, k := range []*Class{in.cTime, in.cDate} {
		field := func(name string, fn func(t time.Time) int) {
			k.DefN(name, 0, 0, func(c *Call) (Value, error) { return int64(fn(self(c))), nil })
		}
		field("year", time.Time.Year)
		for _, n := range []string{"month", "mon"} {
			field(n, func(t time.Time) int { return int(t.Month()) })
		}
		for _, n := range []string{"day", "mday"} {
			field(n, time.Time.Day)
		}
		field("yday", time.Time.YearDay)
		field("wday", func(t time.Time) int { return int(t.Weekday()) })
		for d := time.Sunday; d <= time.Saturday; d++ {
			k.DefN(strings.ToLower(d.String())+"?", 0, 0, func(c *Call) (Value, error) { return self(c).Weekday() == d, nil })
		}
		k.DefN("strftime", 0, 1, func(c *Call) (Value, error) {
			if len(c.Args) == 0 {
				return c.In.Call(c.Self, "to_s", nil, nil)
			}
			f, err := c.strArg(0)
			if err != nil {
				return nil, err
			}
			// A directive may be as wide as 100, and need not be longer than 2.
			if err := c.In.charge(len(f) + 100*strings.Count(f, "%")); err != nil {
				return nil, err
			}
			return NewString(strftime(self(c), f, k == in.cDate)), nil
		})
		k.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
			if t, ok := timeOf(c.Args[0]); ok && c.In.IsA(c.Args[0], k) {
				return int64(self(c).Compare(t)), nil
			}
			if k == in.cDate && isNumber(c.Args[0]) {
				day, err := c.In.Call(c.Self, "ajd", nil, nil)
				if err != nil {
					return nil, err
				}
				return c.In.Call(day, "<=>", c.Args, nil)
			}
			return nil, nil
		})
		k.DefN("to_time", 0, 0, func(c *Call) (Value, error) {
			t := self(c)
			if t.Location() == time.UTC && c.In.IsA(c.Self, in.cDate) {
				t = t.In(localZone)
			}
			return c.In.newTime(t), nil
		})
		k.DefN("to_date", 0, 0, func(c *Call) (Value, error) { return c.In.newDate(self(c)), nil })
		k.DefN("to_datetime", 0, 0, func(c *Call) (Value, error) { return &Object{Class: in.cDateTime, Data: self(c)}, nil })
		k.DefN("iso8601", 0, 1, func(c *Call) (Value, error) {
			if c.In.ClassOf(c.Self) == in.cDate {
				return NewString(strftime(self(c), "%F", true)), nil
			}
			places, err := c.intArg(0, 0)
			if err != nil {
				return nil, err
			}
			part := ""
			if places > 0 {
				places = min(places, 100)
				part = fmt.Sprintf(".%09d", self(c).Nanosecond())
				part += strings.Repeat("0", int(max(places+1-int64(len(part)), 0)))
				part = part[:places+1]
			}
			zone := "Z07:00"
			if k == in.cDate {
				zone = "-07:00"
			}
			return NewString(self(c).Format("2006-01-02T15:04:05") + part + self(c).Format(zone)), nil
		})
		k.alias("iso8601", "xmlschema")
		k.DefN("hash", 0, 0, in.cKernel.methods["hash"].native)
	}
	t := in.cTime
	t.DefN("to_i", 0, 0, func(c *Call) (Value, error) { return self(c).Unix(), nil })
	t.DefN("to_f", 0, 0, func(c *Call) (Value, error) { return floatOf(unixRat(self(c))), nil })
	t.DefN("+", 1, 1, func(c *Call) (Value, error) {
		t, err := c.In.later(self(c), c.Args[0], 1)
		return c.In.newTime(t), err
	})
	t.DefN("-", 1, 1, func(c *Call) (Value, error) {
		if o, ok := timeOf(c.Args[0]); ok {
			if d := self(c).Sub(o); d > math.MinInt64 && d < math.MaxInt64 {
				return d.Seconds(), nil
			}
			return float64(self(c).Unix() - o.Unix()), nil // more than a Duration holds
		}
		t, err := c.In.later(self(c), c.Args[0], -1)
		return c.In.newTime(t), err
	})
	for _, n := range []string{"utc", "getutc", "gmtime", "getgm"} {
		t.DefN(n, 0, 0, func(c *Call) (Value, error) { return c.In.newTime(self(c).UTC()), nil })
	}
	for _, n := range []string{"getlocal", "localtime"} {
		t.DefN(n, 0, 1, func(c *Call) (Value, error) {
			loc, err := c.In.zone(c.Arg(0))
			return c.In.newTime(self(c).In(loc)), err
		})
	}
	for _, n := range []string{"round", "floor", "ceil"} {
		t.DefN(n, 0, 1, func(c *Call) (Value, error) {
			digits, err := c.intArg(0, 0)
			unit := time.Second
			for range max(min(digits, 9), 0) {
				unit /= 10
			}
			t := self(c).Truncate(unit)
			if rest := self(c).Sub(t); c.Name == "ceil" && rest > 0 || c.Name == "round" && rest >= (unit+1)/2 && rest > 0 {
				t = t.Add(unit)
			}
			return c.In.newTime(t), err
		})
	}
	t.DefN("subsec", 0, 0, func(c *Call) (Value, error) {
		if n := int64(self(c).Nanosecond()); n > 0 {
			return big.NewRat(n, 1e9), nil
		}
		return int64(0), nil
	})
	t.DefN("to_r", 0, 0, func(c *Call) (Value, error) { return unixRat(self(c)), nil })
	t.DefN("to_a", 0, 0, func(c *Call) (Value, error) {
		t := self(c)
		return NewArray(int64(t.Second()), int64(t.Minute()), int64(t.Hour()), int64(t.Day()), int64(t.Month()), int64(t.Year()),
			int64(t.Weekday()), int64(t.YearDay()), false, zoneName(t)), nil
	})
	t.DefN("httpdate", 0, 0, func(c *Call) (Value, error) {
		return NewString(self(c).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")), nil
	})
	t.DefN("rfc2822", 0, 0, func(c *Call) (Value, error) {
		if self(c).Location() == time.UTC {
			return NewString(self(c).Format("Mon, 02 Jan 2006 15:04:05 -0000")), nil
		}
		return NewString(self(c).Format("Mon, 02 Jan 2006 15:04:05 -0700")), nil
	})
	t.alias("rfc2822", "rfc822")
	t.DefN("dst?", 0, 0, func(c *Call) (Value, error) { return false, nil })
	t.DefN("utc?", 0, 0, func(c *Call) (Value, error) { return self(c).Location() == time.UTC, nil })
	t.DefN("zone", 0, 0, func(c *Call) (Value, error) { return zoneName(self(c)), nil })
	t.DefN("utc_offset", 0, 0, func(c *Call) (Value, error) { _, off := self(c).Zone(); return int64(off), nil })
	show := func(c *Call) (Value, error) {
		layout := "2006-01-02 15:04:05"
		if c.Name == "inspect" {
			layout += ".999999999"
		}
		if self(c).Location() == time.UTC {
			return NewString(self(c).Format(layout + " UTC")), nil
		}
		return NewString(self(c).Format(layout + " -0700")), nil
	}
	t.DefN("to_s", 0, 0, show)
	t.DefN("inspect", 0, 0, show)

	d := in.cDate
	days := func(c *Call, v Value, sign int64) (Value, error) {
		r, err := c.In.toRat(v)
		if !isNumber(v) || err != nil {
			return nil, c.In.Raise(c.In.eType, "expected numeric")
		}
		r = new(big.Rat).Mul(r, new(big.Rat).SetInt64(sign))
		n := floorRat(r)
		rest := new(big.Rat).Sub(r, new(big.Rat).SetInt(n))
		nanos := floorRat(rest.Add(rest.Mul(rest, big.NewRat(86400e9, 1)), big.NewRat(1, 2))).Int64()
		days := int64(10_000_000) * int64(n.Sign())
		if n.IsInt64() {
			days = max(min(n.Int64(), 10_000_000), -10_000_000)
		}
		return &Object{Class: c.Self.(*Object).Class, Data: self(c).AddDate(0, 0, int(days)).Add(time.Duration(nanos))}, nil
	}
	d.DefN("+", 1, 1, func(c *Call) (Value, error) { return days(c, c.Args[0], 1) })
	d.DefN("-", 1, 1, func(c *Call) (Value, error) {
		if o, ok := timeOf(c.Args[0]); ok {
			diff := unixRat(self(c))
			diff.Sub(diff, unixRat(o))
			return diff.Quo(diff, big.NewRat(86400, 1)), nil
		}
		return days(c, c.Args[0], -1)
	})
	months := func(c *Call, n int64) Value {
		t := self(c)
		first := time.Date(t.Year(), t.Month()+time.Month(max(min(n, 120000), -120000)), 1, t.Hour(), t.Minute(), t.Second(), 0, t.Location())
		last := first.AddDate(0, 1, -1).Day()
		return &Object{Class: c.Self.(*Object).Class, Data: first.AddDate(0, 0, min(t.Day(), last)-1)}
	}
	for name, sign := range map[string]int64{">>": 1, "<<": -1, "next_month": 1, "prev_month": -1, "next_year": 12, "prev_year": -12} {
		d.DefN(name, 0, 1, func(c *Call) (Value, error) {
			n, err := c.intArg(0, 1)
			return months(c, sign*n), err
		})
	}
	for name, sign := range map[string]int64{"next_day": 1, "prev_day": -1, "succ": 1, "next": 1} {
		d.DefN(name, 0, 1, func(c *Call) (Value, error) {
			if len(c.Args) == 0 {
				return days(c, int64(1), sign)
			}
			return days(c, c.Args[0], sign)
		})
	}
	julian := func(t time.Time) int64 {
		return int64(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix()/86400) + 2440588
	}
	d.DefN("ajd", 0, 0, func(c *Call) (Value, error) {
		r := unixRat(self(c))
		return r.Add(r.Quo(r, big.NewRat(86400, 1)), big.NewRat(4881175, 2)), nil
	})
	d.DefN("day_fraction", 0, 0, func(c *Call) (Value, error) {
		t := self(c)
		r := big.NewRat(int64(t.Nanosecond()), 1e9)
		r.Add(r, big.NewRat(int64(t.Hour()*3600+t.Minute()*60+t.Second()), 1))
		return r.Quo(r, big.NewRat(86400, 1)), nil
	})
	in.cDateTime.DefN("new_offset", 0, 1, func(c *Call) (Value, error) {
		if len(c.Args) == 0 {
			return &Object{Class: in.cDateTime, Data: self(c).UTC()}, nil
		}
		loc, err := c.In.dateZone(c.Args[0])
		if err != nil {
			return nil, err
		}
		return &Object{Class: in.cDateTime, Data: self(c).In(loc)}, nil
	})
	d.DefN("jd", 0, 0, func(c *Call) (Value, error) { return julian(self(c)), nil })
	d.DefN("mjd", 0, 0, func(c *Call) (Value, error) { return julian(self(c)) - 2400001, nil })
	d.DefN("ld", 0, 0, func(c *Call) (Value, error) { return julian(self(c)) - 2299160, nil })
	d.DefN("cweek", 0, 0, func(c *Call) (Value, error) { _, w := self(c).ISOWeek(); return int64(w), nil })
	d.DefN("cwyear", 0, 0, func(c *Call) (Value, error) { y, _ := self(c).ISOWeek(); return int64(y), nil })
	leap := func(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }
	d.DefN("leap?", 0, 0, func(c *Call) (Value, error) { return leap(self(c).Year()), nil })
	dm.DefN("leap?", 1, 1, func(c *Call) (Value, error) {
		n, err := c.intArg(0, 0)
		return leap(int(n)), err
	})
	dm.alias("leap?", "gregorian_leap?")
	var months12, abbr, names, short []string
	for m := time.January; m <= time.December; m++ {
		months12, abbr = append(months12, m.String()), append(abbr, m.String()[:3])
	}
	for w := time.Sunday; w <= time.Saturday; w++ {
		names, short = append(names, w.String()), append(short, w.String()[:3])
	}
	d.SetConst("MONTHNAMES", NewArray(append([]Value{nil}, Strings(months12).Elems...)...))
	d.SetConst("ABBR_MONTHNAMES", NewArray(append([]Value{nil}, Strings(abbr).Elems...)...))
	d.SetConst("DAYNAMES", Strings(names))
	d.SetConst("ABBR_DAYNAMES", Strings(short))
	d.DefN("cwday", 0, 0, func(c *Call) (Value, error) { return int64((self(c).Weekday()+6)%7 + 1), nil })
	d.DefN("to_s", 0, 0, func(c *Call) (Value, error) {
		if c.Self.(*Object).Class == in.cDateTime {
			return NewString(self(c).Format("2006-01-02T15:04:05-07:00")), nil
		}
		return NewString(self(c).Format("2006-01-02")), nil
	})
	d.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		_, off := self(c).Zone()
		u := self(c).UTC()
		return NewString(fmt.Sprintf("#<%s: %s ((%dj,%ds,%dn),%+ds,2299161j)>", c.In.className(c.Self.(*Object).Class), c.In.ToS(c.Self),
			julian(u), u.Hour()*3600+u.Minute()*60+u.Second(), u.Nanosecond(), off)), nil
	})
	d.DefN("===", 1, 1, func(c *Call) (Value, error) {
		o, ok := timeOf(c.Args[0])
		return ok && julian(o) == julian(self(c)), nil
	})
}
