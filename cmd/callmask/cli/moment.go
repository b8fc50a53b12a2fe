package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// moment is a flag that names a moment: as given, because what it means depends on now.
type moment string

// Decode implements kong.MapperValue: a value may begin with a hyphen (-2h).
func (m *moment) Decode(ctx *kong.DecodeContext) error {
	t := ctx.Scan.Pop()
	if t.IsEOL() {
		return errors.New("needs a time")
	}
	*m = moment(fmt.Sprint(t.Value))
	_, err := m.at(time.Now())
	return err
}

// momentForms are how a moment may be written, beside -2h. Without a zone it is UTC, as
// everything that callmask prints.
var momentForms = []string{
	time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00",
	time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly,
}

// at reads the moment.
func (m moment) at(now time.Time) (time.Time, error) {
	text := strings.TrimSpace(string(m))
	if text == "now" {
		return now.UTC(), nil
	}
	if ago, ok := strings.CutPrefix(text, "-"); ok {
		d, err := span(ago)
		if err != nil || d < 0 {
			return time.Time{}, errors.New("is no time: after a minus there must be a duration, such as -90m, -2h or -3d")
		}
		return now.Add(-d).UTC(), nil
	}
	for _, form := range momentForms {
		at, err := time.Parse(form, text)
		if err != nil {
			continue
		}
		if at.After(now) {
			return time.Time{}, fmt.Errorf("lies in the future: it is read as %s", at.UTC().Format(time.RFC3339))
		}
		return at.UTC(), nil
	}
	return time.Time{}, errors.New(`is no time: write it as 2026-11-25T14:03:00+01:00, as "2026-11-25 14:03" (UTC), or as -2h`)
}

// span reads a duration, in days as well.
func span(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * 24 * float64(time.Hour)), err
	}
	return time.ParseDuration(text)
}
