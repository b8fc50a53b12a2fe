package replenisher

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/vn"
)

// A purchase that took effect after we had given it up.
func TestALatePurchaseComesIntoThePoolOfItsIntent(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	in := events.PurchaseIntent{VN: stranger.Digits(), Pool: "london", Carrier: "first", Price: "1.00", Currency: "USD", At: w.now, ClosedAt: w.now, Outcome: events.OutcomeNotBought}
	w.put(in)
	w.lists(stranger, tag(in), "")
	row := single(t, compare(t, r, ReconcileOptions{}), Adopt, stranger)
	require.Equal(t, "london", row.Pool)
	require.Equal(t, "london", w.inventory[stranger].Pool)
	require.Equal(t, events.OutcomeBought, w.outcome("london", stranger), "it costs money")
	require.Equal(t, events.ReasonAdopted, w.bought[len(w.bought)-1].Reason)
	w.addsUp(t)
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
}

// Its intent was given up and another one written in its place, which found it sold.
func TestALatePurchaseWhoseIntentWasReplacedComesIntoItsPool(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pools []string
		url   string
		want  Action
	}{
		{[]string{"london"}, webhook, Adopt},
		{[]string{"london", "leeds"}, webhook, Report},
		{[]string{"london"}, "", Report}, // another installation may have bought it just now
		{[]string{"london"}, "https://calls.other.example.com/v1/carriers/x/voice", Report},
	} {
		w, _, r := filledLondon(t)
		for _, pool := range tt.pools {
			w.put(events.PurchaseIntent{VN: stranger.Digits(), Pool: pool, Carrier: "first", At: w.now, ClosedAt: w.now, Outcome: events.OutcomeNotBought})
		}
		w.lists(stranger, "callmask:"+stranger.Digits()+":before", tt.url)
		single(t, compare(t, r, ReconcileOptions{}), tt.want, stranger)
		if tt.want == Report {
			require.NotContains(t, w.inventory, stranger)
			require.Equal(t, tt.url, w.shops["first"].held[stranger].WebhookURL, "its calls must not be turned to us")
			continue
		}
		require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
		w.addsUp(t)
	}
}

func TestAPoolIsNeverGuessed(t *testing.T) {
	t.Parallel()
	other := events.PurchaseIntent{VN: stranger.Digits(), Pool: "london", Carrier: "first", At: time.Unix(1, 0), ClosedAt: time.Unix(2, 0), Outcome: events.OutcomeNotBought}
	for name, tt := range map[string]struct {
		tag, url string
		intent   *events.PurchaseIntent
		force    bool // needed to adopt it
	}{
		"tagged, no intent":                   {"callmask:447700900999:x", "", nil, false},
		"tagged by another intent":            {"callmask:447700900999:x", "", &other, false},
		"that, another installation's":        {"callmask:447700900999:x", "https://calls.other.example.com/v1/carriers/x/voice", &other, true},
		"somebody's, whom we wanted to buy":   {"", "https://pbx.example.com", &other, true},
		"ours by its address alone":           {"hot line", webhook, nil, false},
		"tagged, another installation's":      {"callmask:447700900999:x", "https://calls.other.example.com/v1/carriers/x/voice", nil, true},
		"a purchase of ours, without its tag": {"", "", &other, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, r := filledLondon(t)
			if tt.intent != nil {
				w.put(*tt.intent)
			}
			w.lists(stranger, tt.tag, tt.url)
			single(t, compare(t, r, ReconcileOptions{}), Report, stranger)
			require.NotContains(t, w.inventory, stranger)
			require.Equal(t, tt.url, w.shops["first"].held[stranger].WebhookURL, "its calls must not be turned to us")
			if tt.force {
				single(t, compare(t, r, ReconcileOptions{Pool: "london"}), Report, stranger)
			}
			single(t, compare(t, r, ReconcileOptions{Pool: "london", Force: tt.force}), Adopt, stranger)
			require.Equal(t, "london", w.inventory[stranger].Pool)
			require.Equal(t, events.OutcomeBought, w.outcome("london", stranger))
			w.addsUp(t)
			require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
		})
	}
}

// It bears the very tag of its intent, and yet somebody has it in use by now.
func TestALatePurchaseWhoseCallsGoElsewhereNeedsForce(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	in := events.PurchaseIntent{VN: stranger.Digits(), Pool: "london", Carrier: "first", At: w.now, ClosedAt: w.now, Outcome: events.OutcomeNotBought}
	w.put(in)
	w.lists(stranger, tag(in), "https://pbx.example.com")
	for _, pool := range []string{"", "london"} {
		single(t, compare(t, r, ReconcileOptions{Pool: pool}), Report, stranger)
		require.Equal(t, "https://pbx.example.com", w.shops["first"].held[stranger].WebhookURL)
	}
	single(t, compare(t, r, ReconcileOptions{Force: true}), Adopt, stranger)
	require.Empty(t, compare(t, r, ReconcileOptions{}).Rows)
	w.addsUp(t)
}

// A release was begun here and, as it turns out, finished; somebody has bought the
// number anew since.
func TestANumberThatIsInUseElsewhereIsNotGivenBack(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	in, _ := w.lastIntent("london", n)
	in.Outcome, in.Reason, in.Ref = events.OutcomeReleasing, events.ReleasedOperator, "PN1"
	w.put(in)
	w.leaves(n)
	w.lists(n, "callmask:"+n.Digits()+":theirs", "https://calls.other.example.com/v1/carriers/x/voice")
	w.shops["first"].held[n].Ref = "PN2"
	single(t, compare(t, r, ReconcileOptions{}), GiveBack, n)
	require.Contains(t, w.shops["first"].held, n, "theirs")
	require.Equal(t, events.OutcomeReleased, w.outcome("london", n), "ours")
}

// The carrier accepted its release and forgot it; somebody has it in use by now.
func TestAReleaseIsNotAskedForAgainWhenTheNumberIsInUseElsewhere(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	held := w.shops["first"].held[n]
	_, err := r.Release(t.Context(), "london", n)
	require.NoError(t, err)
	held.WebhookURL = "https://pbx.example.com"
	w.shops["first"].held[n] = held
	for _, force := range []bool{false, true} {
		w.advance(2 * time.Hour)
		single(t, compare(t, r, ReconcileOptions{Force: force}), Report, n)
		require.Contains(t, w.shops["first"].held, n)
	}
}

// slowly accepts every release and has done none yet.
type slowly struct{ Numbers }

func (slowly) Release(context.Context, string) error {
	return fmt.Errorf("accepted: %w", carrier.ErrPending)
}

func TestAReleaseThatIsAcceptedOnceMoreIsNoFailure(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	n := w.anyVN()
	held := w.shops["first"].held[n]
	_, err := r.Release(t.Context(), "london", n)
	require.NoError(t, err)
	w.shops["first"].held[n] = held // the carrier took it back, and has it still
	w.advance(2 * time.Hour)
	s := r.sellers["first"]
	s.Numbers = slowly{s.Numbers}
	row := single(t, compare(t, r, ReconcileOptions{}), GiveBack, n)
	require.Empty(t, row.Error)
	require.True(t, s.open(r.now()), "the carrier is not left alone for it")
}

func TestANumberWithoutAnOfferIsBilledAtThePriceOfTheList(t *testing.T) {
	t.Parallel()
	w, _, r := filledLondon(t)
	w.lists(stranger, "callmask:447700900999:x", "")
	without := w.anyVN()
	for _, n := range []vn.Number{stranger, without} {
		w.shops["first"].held[n].Price, w.shops["first"].held[n].Currency = "2.50", "USD"
	}
	w.intents = slices.DeleteFunc(w.intents, func(in events.PurchaseIntent) bool { return in.VN == without.Digits() })
	delete(w.seqs, "london"+without.Digits())
	compare(t, r, ReconcileOptions{Pool: "london"})
	for _, n := range []vn.Number{stranger, without} {
		in, _ := w.lastIntent("london", n)
		require.Equal(t, []string{events.OutcomeBought, "2.50", "USD"}, []string{in.Outcome, in.Price, in.Currency})
	}
	require.Equal(t, "2.50", w.bought[len(w.bought)-1].Price)
	other, _ := w.lastIntent("london", without+1)
	require.Equal(t, "1.00", other.Price)
	w.addsUp(t)
}
