package vn_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func goodOrder(parties int) vn.Order {
	o := vn.Order{ID: "order-1", Pool: "jakarta"}
	for i := range parties {
		o.Parties = append(o.Parties, vn.Party{Role: "role_" + strconv.Itoa(i), Number: alice + vn.Number(i)})
	}
	return o
}

func TestGoodOrdersPassTheCheck(t *testing.T) {
	t.Parallel()
	for n := vn.MinParties; n <= vn.MaxParties; n++ {
		o := goodOrder(n)
		require.NoError(t, o.Check())
	}
	for _, id := range []string{
		"a", "Z", "0", "a.b_c:d-e", "...", "-", ":", "_", ".a", strings.Repeat("x", 64),
		"6f1d8c9e-2a0b-4b61-9d0e-3f5a7c1b2d4e",
	} {
		require.NoError(t, vn.CheckOrderID(id), id)
	}
	for _, role := range []string{"a", "0", "_", "-", "customer", "agent-2", strings.Repeat("x", 32)} {
		require.NoError(t, vn.CheckRole("role", role), role)
	}
	require.NoError(t, vn.CheckName("pool", strings.Repeat("x", 64)))
}

func TestBadOrdersAreRefusedWithTheirField(t *testing.T) {
	t.Parallel()
	withID := func(id string) func(*vn.Order) { return func(o *vn.Order) { o.ID = id } }
	withRole := func(role string) func(*vn.Order) { return func(o *vn.Order) { o.Parties[1].Role = role } }
	withNumber := func(n vn.Number) func(*vn.Order) { return func(o *vn.Order) { o.Parties[1].Number = n } }
	withParties := func(n int) func(*vn.Order) { return func(o *vn.Order) { *o = goodOrder(n) } }
	for _, c := range []struct {
		name    string
		spoil   func(*vn.Order)
		field   string
		problem string
	}{
		{"no id", withID(""), "order_id", "is missing"},
		{"long id", withID(strings.Repeat("x", 65)), "order_id", "is longer than 64 characters"},
		{"id .", withID("."), "order_id", "must not be . or .."},
		{"id ..", withID(".."), "order_id", "must not be . or .."},
		{"id with NUL", withID("a\x00b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with newline", withID("a\nb"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with DEL", withID("a\x7fb"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with C1 control", withID("a\u0085b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with <", withID("a<b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with >", withID("a>b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with &", withID("a&amp;b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with quotes", withID(`a"b'c`), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with braces", withID("{a}"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with an opening brace", withID("a{"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with a space", withID("a b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with a slash", withID("a/b"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with NATS wildcards", withID("a*>"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with an accent", withID("é"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id with Unicode digits", withID("١٢٣"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"id that is not UTF-8", withID("a\xff"), "order_id", "may hold only A-Z a-z 0-9 . _ : -"},
		{"no parties", withParties(0), "parties", "must be 2 to 8 parties"},
		{"1 party", withParties(1), "parties", "must be 2 to 8 parties"},
		{"9 parties", withParties(9), "parties", "must be 2 to 8 parties"},
		{"no role", withRole(""), "parties[1].role", "is missing"},
		{"long role", withRole(strings.Repeat("x", 33)), "parties[1].role", "is longer than 32 characters"},
		{"role in capitals", withRole("Agent"), "parties[1].role", "may hold only a-z 0-9 _ -"},
		{"role with a dot", withRole("a.b"), "parties[1].role", "may hold only a-z 0-9 _ -"},
		{"role with a colon", withRole("a:b"), "parties[1].role", "may hold only a-z 0-9 _ -"},
		{"role with a control character", withRole("a\tb"), "parties[1].role", "may hold only a-z 0-9 _ -"},
		{"role with an accent", withRole("à"), "parties[1].role", "may hold only a-z 0-9 _ -"},
		{"role twice", withRole("role_0"), "parties[1].role", "is used twice"},
		{"no number", withNumber(0), "parties[1].number", "is not a telephone number"},
		{"short number", withNumber(999_999), "parties[1].number", "is not a telephone number"},
		{"long number", withNumber(1_000_000_000_000_000), "parties[1].number", "is not a telephone number"},
		{"number twice", withNumber(alice), "parties[1].number", "is used twice"},
		{"the last of 8 is the first", func(o *vn.Order) {
			*o = goodOrder(8)
			o.Parties[7].Number = alice
		}, "parties[7].number", "is used twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := goodOrder(2)
			c.spoil(&o)
			err := o.Check()
			var field *vn.FieldError
			require.ErrorAs(t, err, &field)
			require.Equal(t, c.field, field.Field)
			require.Equal(t, c.problem, field.Problem)
			require.False(t, field.Forbidden)
			require.Equal(t, c.field+" "+c.problem, err.Error())
			requireMasked(t, err.Error())
		})
	}
}

func TestPoolAndCarrierNamesAreChecked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", strings.Repeat("x", 65), "Jakarta", "a.b", "a:b", "{a}", "a b", "a/b", "a>", "ü"} {
		var field *vn.FieldError
		require.ErrorAs(t, vn.CheckName("pool", name), &field, name)
		require.Equal(t, "pool", field.Field)
	}
}

func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	all := []error{
		vn.ErrPoolExhausted, vn.ErrOrderConflict, vn.ErrOrderEnded, vn.ErrOrderUnknown, vn.ErrPoolUnknown,
		vn.ErrNumberUnknown, vn.ErrForbidden, vn.ErrCold, vn.ErrUnavailable,
	}
	for i, a := range all {
		for j, b := range all {
			require.Equal(t, i == j, errors.Is(a, b))
		}
	}
}

func TestEveryReasonHasItsNameAndSIPAnswer(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for r := range vn.Reason(vn.Reasons) {
		code, phrase := r.SIP()
		require.NotEmpty(t, r.String())
		require.False(t, names[r.String()], "a name of its own")
		names[r.String()] = true
		require.NotEmpty(t, phrase)
		require.Equal(t, r == vn.Connected, code == 200)
	}
	code, phrase := vn.NumberNotAssigned.SIP()
	otherCode, otherPhrase := vn.CallerNotAllowed.SIP()
	require.Equal(t, code, otherCode, "nobody learns which numbers are in use")
	require.Equal(t, phrase, otherPhrase)
}
