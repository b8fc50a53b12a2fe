package vn_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const (
	alice  = vn.Number(12025550123)
	masked = "+12025•••23"
)

// requireMasked fails when text holds the middle of alice's number in any base that
// fmt knows.
func requireMasked(t *testing.T, text string) {
	t.Helper()
	n := uint64(alice)
	for _, clear := range []string{
		"5550123", "12025550", fmt.Sprintf("%x", n), fmt.Sprintf("%X", n),
		fmt.Sprintf("%o", n), fmt.Sprintf("%b", n), fmt.Sprintf("%e", float64(n)),
	} {
		require.NotContains(t, text, clear)
	}
}

func TestNumberMasksItselfUnderEveryVerb(t *testing.T) {
	t.Parallel()
	// %T prints the type alone. %p and %w are left out: fmt gives a type no say in
	// them (see Number), and go vet, part of go test, refuses both for a Number.
	for _, verb := range strings.Split("vdsqxXobcUeEfFgGtOjz", "") {
		for _, flags := range []string{"", "+", "#", " ", "0", "-", "20", "-20", ".3", "+#20.3", "[1]"} {
			require.Equal(t, masked, fmt.Sprintf("%"+flags+verb, alice))
		}
	}
	require.Equal(t, masked, fmt.Sprint(alice))
	require.Equal(t, masked+"\n", fmt.Sprintln(alice))
	require.Equal(t, masked, alice.String())
	require.Equal(t, "vn.Number", fmt.Sprintf("%T", alice))
}

func TestNumberMasksItselfInsideOtherValues(t *testing.T) {
	t.Parallel()
	number := alice
	var none *vn.Number
	values := []any{
		&number, none,
		[]vn.Number{alice},
		[1]vn.Number{alice},
		map[vn.Number]vn.Number{alice: alice},
		map[string]any{"number": alice},
		vn.Party{Role: "customer", Number: alice},
		&vn.Party{Role: "customer", Number: alice},
		vn.Order{ID: "order-1", Parties: []vn.Party{{Role: "customer", Number: alice}}},
		vn.Call{Called: alice, Calling: alice},
		&vn.Decision{Destination: alice, CallerID: alice},
		vn.Assignment{Parties: []vn.AssignedParty{{Role: "agent", VN: alice}}},
		struct{ Any any }{alice},
		fmt.Errorf("wrapped: %w", errors.New(alice.String())),
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			requireMasked(t, fmt.Sprintf(verb, value))
		}
		out, err := json.Marshal(value)
		require.NoError(t, err)
		requireMasked(t, string(out))
	}
	// The mistakes that go vet finds where the format is a constant: no directive, a
	// wrong index, the number as a width or precision.
	for _, format := range []string{"none", "%[3]d", "%*d", "%.*f", "%", "%d %d"} {
		requireMasked(t, fmt.Sprintf(format, alice))
	}
}

func TestNumberMasksItselfInEncodings(t *testing.T) {
	t.Parallel()
	out, err := json.Marshal(alice)
	require.NoError(t, err)
	require.Equal(t, `"`+masked+`"`, string(out))

	out, err = json.Marshal(map[vn.Number]int{alice: 1})
	require.NoError(t, err)
	require.Equal(t, `{"`+masked+`":1}`, string(out))

	out, err = xml.Marshal(vn.Party{Role: "customer", Number: alice})
	require.NoError(t, err)
	requireMasked(t, string(out))

	page := &bytes.Buffer{}
	require.NoError(t, template.Must(template.New("").Parse(`{{.}} {{printf "%d" .}}`)).Execute(page, alice))
	requireMasked(t, page.String())
	require.Contains(t, page.String(), "•••")
}

func TestNumberMasksItselfInLogs(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	logger := zerolog.New(log)
	number := alice
	party := vn.Party{Role: "customer", Number: alice}
	logger.Info().
		Interface("interface", alice).
		Any("any", alice).
		Any("pointer", &number).
		Any("struct", party).
		Any("slice", []vn.Number{alice}).
		Str("str", fmt.Sprint(alice)).
		Stringer("stringer", alice).
		Fields(map[string]any{"field": alice, "party": party}).
		Array("array", zerolog.Arr().Interface(alice)).
		Dict("dict", zerolog.Dict().Any("number", alice)).
		AnErr("error", fmt.Errorf("number %v", alice)).
		Msgf("message %v %d", alice, alice)
	logger.Print(alice)
	with := logger.With().Any("context", alice).Logger()
	with.Info().Send()
	requireMasked(t, log.String())
	require.Equal(t, 16, strings.Count(log.String(), "•••"), log.String())
}

func TestMaskLeavesTooLittleToCall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n    vn.Number
		want string
	}{
		{0, "none"},
		{1, "+•••"},
		{999_999, "+•••"},
		{1_234_567, "+12•••67"},
		{12_345_678, "+123•••78"},
		{123_456_789, "+1234•••89"},
		{1_234_567_890, "+12345•••90"},
		{alice, masked},
		{999_999_999_999_999, "+99999•••99"},
		{1<<64 - 1, "+18446•••15"},
	} {
		require.Equal(t, c.want, c.n.String())
	}
}

func TestParseTakesDigitsAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, digits string
		want         vn.Number
	}{
		{"empty", "", 0},
		{"6 digits", "123456", 0},
		{"7 digits", "1234567", 1_234_567},
		{"11 digits", "12025550123", alice},
		{"15 digits", "999999999999999", 999_999_999_999_999},
		{"16 digits", "1234567890123456", 0},
		{"20 digits", "18446744073709551616", 0},
		{"leading 0", "02025550123", 0},
		{"all zeros", "0000000", 0},
		{"a second +", "+12025550123", 0},
		{"a minus", "-12025550123", 0},
		{"a space before", " 12025550123", 0},
		{"a space after", "12025550123 ", 0},
		{"a space within", "1202 5550123", 0},
		{"separators", "1-202-555-0123", 0},
		{"the character before 0", "1202555012/", 0},
		{"the character after 9", "1202555012:", 0},
		{"NUL", "12025550123\x00", 0},
		{"newline", "12025550123\n", 0},
		{"letters", "1800FLOWERS", 0},
		{"hexadecimal", "0x12025550123", 0},
		{"underscores", "1_202_555_0123", 0},
		{"exponent", "1e10000000", 0},
		{"anonymous", "anonymous", 0},
		{"client", "client:x", 0},
		{"SIP", "sip:12025550123@example.com", 0},
		{"Arabic-Indic digits", "١٢٠٢٥٥٥٠١٢٣", 0},
		{"Devanagari digits", "१२०२५५५०१२३", 0},
		{"full-width digits", "１２０２５５５０１２３", 0},
		{"one full-width digit", "1202555012３", 0},
		{"mathematical digits", "𝟏𝟐𝟎𝟐", 0},
		{"superscript", "1202555012³", 0},
		{"not UTF-8", "1202555012\xff", 0},
		{"high bytes that wrap to digits", "\xb1\xb2\xb0\xb2\xb5\xb5\xb5", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, ok := vn.ParseDigits(c.digits)
			require.Equal(t, c.want != 0, ok)
			require.True(t, n == c.want)
			n, ok = vn.ParseDigits([]byte(c.digits))
			require.Equal(t, c.want != 0, ok)
			require.True(t, n == c.want)
			n, ok = vn.ParseE164("+" + c.digits)
			require.Equal(t, c.want != 0, ok)
			require.True(t, n == c.want)
			n, ok = vn.ParseE164([]byte("+" + c.digits))
			require.Equal(t, c.want != 0, ok)
			require.True(t, n == c.want)
			if !strings.HasPrefix(c.digits, "+") {
				_, ok = vn.ParseE164(c.digits)
				require.False(t, ok, "E.164 starts with +")
			}
		})
	}
	for _, s := range []string{"", "+", "++12025550123", " +12025550123", "＋12025550123", "%2B12025550123", "0012025550123"} {
		_, ok := vn.ParseE164(s)
		require.False(t, ok, s)
	}
}

func TestNumberWritesWhatItRead(t *testing.T) {
	t.Parallel()
	for _, digits := range []string{"1000000", "12025550123", "447700900123", "999999999999999"} {
		n, ok := vn.ParseDigits(digits)
		require.True(t, ok)
		require.True(t, n.Valid())
		require.Equal(t, digits, n.Digits())
		require.Equal(t, "+"+digits, n.E164())
		require.Equal(t, "a"+digits, string(n.AppendDigits([]byte("a"))))
		require.Equal(t, "a+"+digits, string(n.AppendE164([]byte("a"))))
	}
}

func TestValidIsWhatParseAccepts(t *testing.T) {
	t.Parallel()
	for _, n := range []vn.Number{0, 1, 999_999, 1_000_000_000_000_000, 1<<64 - 1} {
		require.False(t, n.Valid())
		_, ok := vn.ParseDigits(n.Digits())
		require.False(t, ok)
	}
}

func TestMaskedNumberCannotBeReadBack(t *testing.T) {
	t.Parallel()
	out, err := json.Marshal(vn.Party{Role: "customer", Number: alice})
	require.NoError(t, err)
	var p vn.Party
	require.Error(t, json.Unmarshal(out, &p), "a payload that went through a Number by mistake is no number")
}

// Not parallel: AllocsPerRun counts the whole process.
func TestParseAndAppendDoNotAllocate(t *testing.T) {
	asString, asBytes := "+12025550123", []byte("+12025550123")
	buf := make([]byte, 0, 32)
	for name, do := range map[string]func(){
		"ParseE164 of a string":   func() { _, _ = vn.ParseE164(asString) },
		"ParseE164 of bytes":      func() { _, _ = vn.ParseE164(asBytes) },
		"ParseDigits of a string": func() { _, _ = vn.ParseDigits(asString[1:]) },
		"ParseDigits of bytes":    func() { _, _ = vn.ParseDigits(asBytes[1:]) },
		"ParseE164, refused":      func() { _, _ = vn.ParseE164(asBytes[1:]) },
		"AppendE164":              func() { buf = alice.AppendE164(buf[:0]) },
		"AppendDigits":            func() { buf = alice.AppendDigits(buf[:0]) },
		"Valid":                   func() { _ = alice.Valid() },
	} {
		require.Zero(t, testing.AllocsPerRun(1000, do), name)
	}
}

func FuzzParseE164(f *testing.F) {
	for _, s := range []string{
		"+12025550123", "+447700900123", "12025550123", "+", "+0123456", "+1234567", "+999999999999999",
		"+1234567890123456", "+1202555012３", "+1 202 555 0123", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := vn.ParseE164(s)
		fromBytes, okBytes := vn.ParseE164([]byte(s))
		require.Equal(t, ok, okBytes)
		require.True(t, n == fromBytes)
		require.Equal(t, ok, n.Valid())
		if !ok {
			require.True(t, n == 0)
			return
		}
		require.Equal(t, s, n.E164(), "what is accepted is written the same")
		require.Equal(t, s[1:], n.Digits())
		shown := strings.ReplaceAll(n.String(), "•••", "")
		require.LessOrEqual(t, len(shown), len(s)-3, "at least three digits are hidden")
	})
}

func BenchmarkParseE164(b *testing.B) {
	s := []byte("+12025550123")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = vn.ParseE164(s)
	}
}
