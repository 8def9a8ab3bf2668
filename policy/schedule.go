package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Schedule says when people aren't told that something failed: on Days, and
// during Hours of the others. What is held back is told at the end of that. Its
// zero value holds nothing back.
type Schedule struct {
	// TimeZone is a name of the IANA database; empty is UTC.
	TimeZone string `yaml:"timeZone,omitempty"`
	// Days are whole days of the week, by their English names.
	Days []string `yaml:"days,omitempty"`
	// Hours is from when to when, such as 20:00-08:00.
	Hours string `yaml:"hours,omitempty"`
}

var weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// Validate reports everything that is wrong with s.
func (s Schedule) Validate() error {
	var errs []error
	if _, err := time.LoadLocation(s.TimeZone); err != nil {
		errs = append(errs, fmt.Errorf("timeZone %q: it must be a name of the IANA database, such as Europe/Berlin", s.TimeZone))
	}
	days := map[string]bool{}
	for i, d := range s.Days {
		days[strings.ToLower(d)] = true
		if !slices.Contains(weekdays, strings.ToLower(d)) {
			errs = append(errs, fmt.Errorf("days[%d] %q: it must be a day of the week, such as saturday", i, d))
		}
	}
	if len(days) >= len(weekdays) {
		errs = append(errs, errors.New("days: nobody would ever be told; leave a day out"))
	}
	if _, _, err := s.hours(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// hours are in minutes from midnight; the same twice for none.
func (s Schedule) hours() (from, to int, err error) {
	if s.Hours == "" {
		return 0, 0, nil
	}
	bad := fmt.Errorf("hours %q: it must be from when to when, such as 20:00-08:00, and not the whole day", s.Hours)
	a, b, _ := strings.Cut(s.Hours, "-")
	for _, at := range []struct {
		text string
		into *int
	}{{a, &from}, {b, &to}} {
		t, err := time.Parse("15:04", strings.TrimSpace(at.text))
		if err != nil {
			return 0, 0, bad
		}
		*at.into = t.Hour()*60 + t.Minute()
	}
	if from == to {
		return 0, 0, bad
	}
	return from, to, nil
}

// HeldUntil is when people may be told that something failed; the zero time for
// at once. The schedule is a valid one.
func (s Schedule) HeldUntil(now time.Time) time.Time {
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil {
		zone = time.UTC
	}
	from, to, _ := s.hours()
	at := now.In(zone)
	for range 3 * len(weekdays) { // each turn goes to the end of a day or of the hours
		y, m, d := at.Date()
		minute := at.Hour()*60 + at.Minute()
		switch {
		case slices.ContainsFunc(s.Days, func(d string) bool { return strings.EqualFold(d, weekdays[at.Weekday()]) }),
			from > to && minute >= from:
			at = time.Date(y, m, d+1, 0, 0, 0, 0, zone)
		case from < to && minute >= from && minute < to, from > to && minute < to:
			at = time.Date(y, m, d, to/60, to%60, 0, 0, zone)
		case at.Equal(now):
			return time.Time{}
		default:
			return at
		}
	}
	return at
}
