package replenisher

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
	"github.com/callmask/callmask/carrier/twilio"
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const sharedAccount = "AC0123456789abcdef0123456789abcdef"

// sharing is a Twilio account that several installations of callmask use.
type sharing struct {
	*twiliosim.Server

	url string
}

func shared(t *testing.T) sharing {
	t.Helper()
	server, err := twiliosim.New(twiliosim.Config{AccountSID: sharedAccount, AuthToken: "token", PageSize: 2})
	require.NoError(t, err)
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	return sharing{server, web.URL}
}

// installation is a callmask with a Redis and a JetStream of its own.
type installation struct {
	*rig

	stockKeeper *Replenisher
	twilio      *twilio.Numbers
	voice       string        // its address
	found       *[]vn.Number  // what its search finds, if not nil
	later       time.Duration // how far its clock goes before the real one
}

// overtaken is a client whose search found what others have bought since.
type overtaken struct {
	*twilio.Numbers

	in *installation
}

func (o overtaken) Search(ctx context.Context, region string, limit int) ([]carrier.Offer, error) {
	if o.in.found == nil {
		return o.Numbers.Search(ctx, region, limit)
	}
	var offers []carrier.Offer
	for _, n := range *o.in.found {
		offers = append(offers, carrier.Offer{Number: n, Region: region, Price: "1.15", Currency: "USD"})
	}
	return offers, nil
}

func (s sharing) install(t *testing.T, host string) *installation {
	t.Helper()
	in := &installation{rig: newRig(t), voice: "https://" + host + "/v1/carriers/twilio/voice#ct=500"}
	var err error
	in.twilio, err = twilio.NewNumbers(twilio.NumbersConfig{
		APIURL: s.url, AccountSID: sharedAccount, AuthToken: "token", MonthlyPrice: "1.15 USD",
		WebhookURL: in.voice, MessageURL: "https://" + host + "/v1/carriers/twilio/sms",
		Limits: carrier.Limits{PerSecond: 1000, Burst: 1000, Concurrent: 10},
	})
	require.NoError(t, err)
	t.Cleanup(in.twilio.Close)
	require.NoError(t, in.store.MarkReady(t.Context()))
	in.stockKeeper, err = New(Config{
		Pools:    []Pool{{Name: "newyork", Region: "US", Carriers: []string{"twilio"}, LowWater: 3, Target: 3, Max: 9, Fixed: true}},
		Carriers: map[string]CarrierConfig{"twilio": {Numbers: overtaken{in.twilio, in}, WebhookURL: in.voice}},
	}, in.store, in.bus, in.ledger, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	in.stockKeeper.now = func() time.Time { return time.Now().Add(in.later) }
	return in
}

func (in *installation) look(t *testing.T) {
	t.Helper()
	require.NoError(t, in.stockKeeper.look(t.Context(), in.stockKeeper.workers["newyork"]))
}

func (in *installation) has(t *testing.T) map[vn.Number]scripts.Inventory {
	t.Helper()
	inventory, err := in.store.InventoryOf(t.Context(), "twilio")
	require.NoError(t, err)
	return inventory
}

// compares returns how many numbers the comparison found for each action.
func (in *installation) compares(t *testing.T, opt ReconcileOptions) map[Action]int {
	t.Helper()
	d, err := in.stockKeeper.Reconcile(t.Context(), "twilio", opt)
	require.NoError(t, err)
	require.Zero(t, d.Failed)
	actions := map[Action]int{}
	for _, row := range d.Rows {
		actions[row.Action]++
	}
	return actions
}

// Two installations search the same numbers; one is quicker. The other one remembers
// that it wanted them, and must never take them, whatever else is set of them.
func TestRealInstallationsInOneAccountLeaveEachOthersNumbersAlone(t *testing.T) {
	t.Parallel()
	account := shared(t)
	a, b := account.install(t, "a.example.com"), account.install(t, "b.example.com")
	a.look(t)
	require.Len(t, a.has(t), 3)
	var theirs []vn.Number
	for n := range a.has(t) {
		theirs = append(theirs, n)
	}
	b.found = &theirs
	b.look(t)
	require.Empty(t, b.has(t))
	wanted := 0
	require.NoError(t, b.bus.Intents(t.Context(), func(in events.PurchaseIntent, _ uint64) error {
		require.Equal(t, events.OutcomeNotBought, in.Outcome)
		wanted++
		return nil
	}))
	require.Equal(t, 3, wanted)

	leaves := func(opt ReconcileOptions) {
		t.Helper()
		before := map[vn.Number]string{}
		for _, n := range theirs {
			before[n] = account.Field(n, "voice_url")
		}
		b.later += time.Hour
		require.Equal(t, map[Action]int{Report: 3}, b.compares(t, opt))
		require.Empty(t, b.has(t))
		for _, n := range theirs {
			require.Equal(t, before[n], account.Field(n, "voice_url"), "its calls must not be turned to us")
		}
	}
	leaves(ReconcileOptions{})
	leaves(ReconcileOptions{Pool: "newyork"})
	leaves(ReconcileOptions{Force: true})
	require.Empty(t, a.compares(t, ReconcileOptions{}))

	// Nor when their owner's settings differ, which it repairs itself.
	for i, field := range []string{"sms_url", "voice_method", "voice_url"} {
		account.SetField(theirs[i], field, map[string]string{
			"sms_url": "https://a.example.com/old", "voice_method": "GET", "voice_url": "https://a.example.com/v1/carriers/twilio/voice",
		}[field])
	}
	leaves(ReconcileOptions{})
	leaves(ReconcileOptions{Pool: "newyork"})
	require.Equal(t, map[Action]int{Configure: 3}, a.compares(t, ReconcileOptions{}))
	require.Empty(t, a.compares(t, ReconcileOptions{}))
	account.SetField(theirs[0], "voice_application_sid", "AP01")
	account.SetField(theirs[1], "trunk_sid", "TK01")
	leaves(ReconcileOptions{Pool: "newyork"})
	// Not even one that is attached to nobody for the moment.
	account.SetField(theirs[2], "voice_url", "")
	leaves(ReconcileOptions{})
	require.Equal(t, map[Action]int{Configure: 3}, a.compares(t, ReconcileOptions{}))

	// The operator says that a is gone.
	require.Equal(t, map[Action]int{Adopt: 3}, b.compares(t, ReconcileOptions{Pool: "newyork", Force: true}))
	require.Len(t, b.has(t), 3)
	require.Equal(t, b.voice, account.Field(theirs[0], "voice_url"))
	require.Empty(t, b.compares(t, ReconcileOptions{}))
}

// A purchase that took effect when its intent had been given up, and another one that
// found the number sold been written in its place: it bears our mark and calls us.
func TestRealLatePurchaseAtTwilioComesIntoItsPool(t *testing.T) {
	t.Parallel()
	account := shared(t)
	a, b := account.install(t, "a.example.com"), account.install(t, "b.example.com")
	offers, err := a.twilio.Search(t.Context(), "US", 1)
	require.NoError(t, err)
	number := offers[0].Number
	for _, in := range []*installation{a, b} {
		in.found = &[]vn.Number{number}
	}
	_, err = a.twilio.Buy(t.Context(), number, tagPrefix+number.Digits()+":before")
	require.NoError(t, err)
	a.look(t)
	b.look(t)
	account.SetField(number, "sms_url", "https://a.example.com/old")
	require.Equal(t, map[Action]int{Report: 1}, b.compares(t, ReconcileOptions{}))
	require.Equal(t, map[Action]int{Adopt: 1}, a.compares(t, ReconcileOptions{}))
	require.Contains(t, a.has(t), number)
	require.Equal(t, "https://a.example.com/v1/carriers/twilio/sms", account.Field(number, "sms_url"))
	require.Empty(t, a.compares(t, ReconcileOptions{}))
	require.Equal(t, map[Action]int{Report: 1}, b.compares(t, ReconcileOptions{Pool: "newyork"}))
}
