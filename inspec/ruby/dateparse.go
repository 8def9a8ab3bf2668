package ruby

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dateFields is what a text says of a date and a time: what Ruby's Date._parse
// finds. What it doesn't say is absent.
type dateFields struct {
	n     map[string]int // year, mon, mday, yday, wday, cwyear, cweek, cwday, hour, min, sec, nanos
	zone  string
	exact bool // the year is whole: not to be completed from two digits
	bc    bool
}

func (f *dateFields) has(name string) bool { _, ok := f.n[name]; return ok }

func (f *dateFields) set(name, digits string) {
	if n, err := strconv.Atoi(digits); err == nil {
		f.n[name] = n
	}
}

// late is an expression that is compiled once it is used.
func late(src string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(src) })
}

const (
	monthNames = `jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec`
	eraNames   = `(c(?:e|\.e\.)|b(?:ce|\.c\.e\.)|a(?:d|\.d\.)|b(?:c|\.c\.))`
)

var (
	dateNoise = late(`[^-+',./:@0-9A-Za-z\[\]]+`)
	dateDay   = late(`(?i)\b(sun|mon|tue|wed|thu|fri|sat)[^-/\d\s]*`)
	dateTime  = late(`(?i)((?:\d+\s*:\s*\d+(?:\s*:\s*\d+(?:[,.]\d*)?)?|\d+\s*h(?:\s*\d+m?(?:\s*\d+s?)?)?)(?:\s*[ap](?:m\b|\.m\.))?|\d+\s*[ap](?:m\b|\.m\.))` +
		`(?:\s*((?:gmt|utc?)?[-+]\d+(?:[,.:]\d+(?::\d+)?)?|[a-z.\s]+(?:standard|daylight)\stime\b|[a-z]+(?:\sdst)?\b))?`)
	dateClock = late(`(?i)^(\d+)\s*h?(?:\s*:?\s*(\d+)m?(?:\s*:?\s*(\d+)(?:[,.](\d*))?s?)?)?(?:\s*([ap])(?:m\b|\.m\.))?`)
	dateEU    = late(`(?i)('?\d+)[^-\d\s]*\s*\b(` + monthNames + `)[^-\d\s']*(?:\s*` + eraNames + `?\s*('?-?\d+(?:(?:st|nd|rd|th)\b)?))?`)
	dateUS    = late(`(?i)\b(` + monthNames + `)[^-\d\s']*\s*('?\d+)[^-\d\s']*(?:\s*,?\s*` + eraNames + `?\s*('?-?\d+))?`)
	dateISO   = late(`('?[-+]?\d+)-(\d+)-('?-?\d+)`)
	dateJIS   = late(`(?i)\b([mtshr])(\d+)\.(\d+)\.(\d+)`)
	dateVMS   = late(`(?i)('?-?\d+)-(` + monthNames + `)[^-/.]*-('?-?\d+)`)
	dateVMS2  = late(`(?i)\b(` + monthNames + `)[^-/.]*-('?\d+)(?:-('?-?\d+))?`)
	dateSlash = late(`('?-?\d+)/\s*('?\d+)(?:\D\s*('?-?\d+))?`)
	dateDots  = late(`('?-?\d+)\.\s*('?\d+)\.\s*('?-?\d+)`)
	dateWeek  = late(`(?i)\b(\d{2}|\d{4})?-?w(\d{2})(?:-?(\d))?\b`)
	dateYday  = late(`[-+]?\b(\d{2}|\d{4})-(\d{3})\b`)
	dateYear  = late(`'(\d+)\b`)
	dateMonth = late(`(?i)\b(` + monthNames + `)\S*`)
	dateMday  = late(`(?i)(\d+)(?:st|nd|rd|th)\b`)
	datePlain = late(`(?i)([-+]?)(\d{2,14})(?:\s*t?\s*(\d{2,6})?(?:[,.](\d*))?)?(z\b|[-+]\d{1,4}\b)?`)
	dateEra   = late(`(?i)\b(?:bce?\b|b\.c\.(?:e\.)?)`)
	dateLead  = late(`^'?[-+]?\d+$`)
)

// maxDateText bounds what is read as a date, as Ruby does.
const maxDateText = 128

// readDate finds a date and a time in s, wherever they are, as Date._parse.
func readDate(s string) dateFields {
	f := dateFields{n: map[string]int{}}
	s = dateNoise().ReplaceAllString(s, " ")
	// take removes a form from the text once it is found.
	take := func(re func() *regexp.Regexp) []string {
		m := re().FindStringSubmatchIndex(s)
		if m == nil {
			return nil
		}
		groups := make([]string, len(m)/2)
		for i := range groups {
			if m[2*i] >= 0 {
				groups[i] = s[m[2*i]:m[2*i+1]]
			}
		}
		s = s[:m[0]] + " " + s[m[1]:]
		return groups
	}
	month := func(name string) string {
		return strconv.Itoa(strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(name[:3]))/3 + 1)
	}
	if m := take(dateDay); m != nil {
		f.n["wday"] = strings.Index("sunmontuewedthufrisat", strings.ToLower(m[1])) / 3
	}
	if m := take(dateTime); m != nil {
		f.clock(m[1])
		f.zone = m[2]
	}
	if m := take(dateEU); m != nil {
		f.ymd(m[4], month(m[2]), m[1], m[3])
	} else if m := take(dateUS); m != nil {
		f.ymd(m[4], month(m[1]), m[2], m[3])
	} else if m := take(dateISO); m != nil {
		f.ymd(m[1], m[2], m[3], "")
	} else if m := take(dateJIS); m != nil {
		n, _ := strconv.Atoi(m[2])
		f.n["year"] = n + map[string]int{"m": 1867, "t": 1911, "s": 1925, "h": 1988, "r": 2018}[strings.ToLower(m[1])]
		f.exact = true
		f.set("mon", m[3])
		f.set("mday", m[4])
	} else if m := take(dateVMS); m != nil {
		f.ymd(m[3], month(m[2]), m[1], "")
	} else if m := take(dateVMS2); m != nil {
		f.ymd(m[3], month(m[1]), m[2], "")
	} else if m := take(dateSlash); m != nil {
		f.ymd(m[1], m[2], m[3], "")
	} else if m := take(dateDots); m != nil {
		f.ymd(m[1], m[2], m[3], "")
	} else if m := take(dateWeek); m != nil {
		f.set("cwyear", m[1])
		f.set("cweek", m[2])
		f.set("cwday", m[3])
	} else if m := take(dateYday); m != nil {
		f.set("year", m[1])
		f.exact = len(m[1]) > 2
		f.set("yday", m[2])
	} else if m := take(dateYear); m != nil {
		f.set("year", m[1])
	} else if m := take(dateMonth); m != nil {
		f.set("mon", month(m[1]))
	} else if m := take(dateMday); m != nil {
		f.set("mday", m[1])
	} else if m := take(datePlain); m != nil {
		f.plain(m)
	}
	f.bc = f.bc || dateEra().MatchString(s)
	f.complete()
	return f
}

func (f *dateFields) clock(s string) {
	m := dateClock().FindStringSubmatch(s)
	if m == nil {
		return
	}
	f.set("hour", m[1])
	if m[5] != "" {
		f.n["hour"] %= 12
		if strings.EqualFold(m[5], "p") {
			f.n["hour"] += 12
		}
	}
	f.set("min", m[2])
	f.set("sec", m[3])
	if m[4] != "" {
		f.set("nanos", (m[4] + "000000000")[:9])
	}
}

// ymd sorts out which of three numbers is the year, as MRI does.
func (f *dateFields) ymd(y, m, d, era string) {
	long := func(s string) bool { return strings.HasPrefix(s, "'") || len(s) > 2 }
	if y != "" && m != "" && d == "" {
		y, m, d = d, y, m
	}
	if y == "" && d != "" && long(d) {
		y, d = d, ""
	}
	if y != "" && !dateLead().MatchString(y) {
		y, d = d, y
	}
	if m != "" && long(m) {
		y, m, d = m, d, y
	}
	if d != "" && long(strings.TrimLeft(d, "-")) && dateLead().MatchString(d) {
		y, d = d, y
	}
	if y != "" {
		f.exact = y[0] != '\'' && (strings.ContainsAny(y[:1], "-+") || len(y) > 2)
		f.set("year", strings.TrimLeft(y, "'"))
	}
	f.bc = strings.HasPrefix(strings.ToLower(era), "b")
	f.set("mon", strings.TrimLeft(m, "'"))
	f.set("mday", leadingDigits(strings.TrimLeft(d, "'-")))
}

func leadingDigits(s string) string {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return s[:i]
}

// plain reads digits without anything between them, by their number.
func (f *dateFields) plain(m []string) {
	digits, clock := m[2], m[3]
	cut := func(names ...string) {
		for _, name := range names {
			n := 2
			if name == "Year" {
				name, n, f.exact = "year", 4, true
			} else if name == "yday" {
				n = 3
			}
			f.set(name, digits[:n])
			digits = digits[n:]
		}
	}
	switch len(digits) {
	case 2:
		cut("mday")
	case 3:
		cut("yday")
	case 4:
		cut("mon", "mday")
	case 5:
		cut("year", "yday")
	case 6:
		cut("year", "mon", "mday")
	case 7:
		cut("Year", "yday")
	case 8, 10, 12, 14:
		cut("Year", "mon", "mday")
		cut([]string{"hour", "min", "sec"}[:len(digits)/2]...)
	}
	if m[1] == "-" && f.has("year") {
		f.n["year"] = -f.n["year"]
	}
	digits = clock
	if n := len(clock) / 2; n > 0 && len(clock)%2 == 0 {
		cut([]string{"hour", "min", "sec"}[:n]...)
	}
	if m[4] != "" {
		f.set("nanos", (m[4] + "000000000")[:9])
	}
	if m[5] != "" {
		f.zone = m[5]
	}
}

// complete makes a whole year of two digits.
func (f *dateFields) complete() {
	for _, name := range []string{"year", "cwyear"} {
		y, ok := f.n[name]
		switch {
		case !ok:
		case f.bc && name == "year":
			f.n[name] = 1 - y
		case f.exact || y < 0 || y > 99:
		case y >= 69:
			f.n[name] = y + 1900
		default:
			f.n[name] = y + 2000
		}
	}
}

// zoneOffsets are the zones by name that Ruby knows, in hours.
var zoneOffsets = map[string]float64{
	"utc": 0, "gmt": 0, "ut": 0, "z": 0, "wet": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
	"akst": -9, "akdt": -8, "hst": -10, "ast": -4, "adt": -3, "nst": -3.5, "ndt": -2.5, "brt": -3, "art": -3,
	"bst": 1, "ist": 5.5, "west": 1, "cet": 1, "cest": 2, "mez": 1, "mesz": 2, "met": 1, "mest": 2, "eet": 2, "eest": 3, "sast": 2,
	"eastern": -5, "central": -6, "mountain": -7, "pacific": -8,
	"msk": 3, "msd": 4, "hkt": 8, "jst": 9, "kst": 9, "nzst": 12, "nzdt": 13,
}

var zoneDigits = late(`(?i)^(?:gmt|utc?)?([-+])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?$`)

// timeZones are the zones that Time.parse knows: fewer than Date.parse does.
var timeZones = late(`(?i)^(?:utc|gmt|z|[ecmp][sd]t|(?:gmt|utc?)?[-+].*)$`)

// location is the zone that the text names; nil when it names none that is
// known.
func (f *dateFields) location() *time.Location {
	name := strings.ToLower(strings.TrimSpace(f.zone))
	if m := zoneDigits().FindStringSubmatch(name); m != nil {
		off := 0
		for i, unit := range []int{3600, 60, 1} {
			n, _ := strconv.Atoi(m[i+2])
			off += n * unit
		}
		if m[1] == "-" {
			off = -off
		}
		switch {
		case off != 0:
			return time.FixedZone("", off)
		case m[1] == "-":
			return time.UTC
		}
		return localZone
	}
	dst := 0
	for suffix, hours := range map[string]int{" dst": 1, " standard time": 0, " daylight time": 1} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			name, dst = base, hours
		}
	}
	hours, ok := zoneOffsets[name]
	if !ok {
		return nil
	}
	if off := int(hours*3600) + dst*3600; off != 0 {
		return time.FixedZone("", off)
	}
	return time.UTC
}

// date is the day that the fields name; what they leave open is of today.
func (f *dateFields) date(today time.Time) (time.Time, bool) {
	year, month, day := today.Date()
	or := func(name string, def int) int {
		if n, ok := f.n[name]; ok {
			return n
		}
		return def
	}
	valid := func(y, m, d int) (time.Time, bool) {
		t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
		return t, t.Day() == d && int(t.Month()) == m && y > -9999 && y < 99999
	}
	week := func(y, w, d int) (time.Time, bool) {
		fourth := time.Date(y, 1, 4, 0, 0, 0, 0, time.UTC)
		t := fourth.AddDate(0, 0, 7*(w-1)+d-1-(int(fourth.Weekday())+6)%7)
		gotY, gotW := t.ISOWeek()
		return t, gotY == y && gotW == w && d >= 1 && d <= 7
	}
	switch {
	case f.has("yday") && !f.has("mon"):
		y := or("year", year)
		t := time.Date(y, 1, f.n["yday"], 0, 0, 0, 0, time.UTC)
		return t, t.Year() == y && f.n["yday"] > 0
	case f.has("mday") && f.has("mon"):
		return valid(or("year", year), f.n["mon"], f.n["mday"])
	case f.has("cweek"):
		isoYear, _ := today.ISOWeek()
		return week(or("cwyear", isoYear), f.n["cweek"], or("cwday", 1))
	case f.has("mday") && !f.has("year"):
		return valid(year, int(month), f.n["mday"])
	case f.has("mday"):
		return time.Time{}, false
	case f.has("mon"):
		return valid(or("year", year), f.n["mon"], 1)
	case f.has("year"):
		return valid(f.n["year"], 1, 1)
	case f.has("wday"):
		t := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
		return t.AddDate(0, 0, f.n["wday"]-int(t.Weekday())), true
	}
	return time.Time{}, false
}

// time is the moment that the fields name, as Time.parse sees it: what is said
// of a day leaves the rest at its beginning, a time alone is of today.
func (f *dateFields) time(loc *time.Location) (time.Time, bool) {
	zone := f.location()
	if zone == nil || !timeZones().MatchString(strings.TrimSpace(f.zone)) {
		zone = loc
	}
	if f.has("yday") && !f.has("mon") || f.has("cweek") {
		day, ok := f.date(time.Now().In(zone))
		return time.Date(day.Year(), day.Month(), day.Day(), f.n["hour"], f.n["min"], f.n["sec"], f.n["nanos"], zone), ok
	}
	now := time.Now().In(zone)
	at := [3]int{now.Year(), int(now.Month()), now.Day()}
	said := false
	for i, name := range []string{"year", "mon", "mday"} {
		n, ok := f.n[name]
		switch {
		case ok:
			at[i], said = n, true
		case said:
			at[i] = 1
		}
	}
	t := time.Date(at[0], time.Month(at[1]), at[2], f.n["hour"], f.n["min"], min(f.n["sec"], 60), f.n["nanos"], zone)
	ok := at[1] >= 1 && at[1] <= 12 && at[2] >= 1 && at[2] <= 31 && f.n["hour"] <= 24 && f.n["min"] <= 59 && f.n["sec"] <= 60
	return t, ok
}
