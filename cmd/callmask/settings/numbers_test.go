package settings

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/exotelsim"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
)

// What the settings attach a number to is what the carrier's list shows of it then, in
// the same words: or each comparison would attach every number again.
func TestANumberIsAttachedAsTheSettingsSay(t *testing.T) {
	t.Parallel()
	const sid, secret = "AC0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	tw, err := twiliosim.New(twiliosim.Config{AccountSID: sid, AuthToken: secret})
	require.NoError(t, err)
	exo, err := exotelsim.New(exotelsim.Config{AccountSID: "callmask1", APIKey: "key", APIToken: secret})
	require.NoError(t, err)
	play, err := sim.NewServer(sim.ServerConfig{Tokens: []string{secret}})
	require.NoError(t, err)
	const calls = "https://calls.example.com"
	for _, c := range []struct {
		keys   CarrierKeys
		region string
		api    http.Handler
		want   string
	}{
		{CarrierKeys{Name: "tw", Kind: Twilio, AccountSID: sid, AuthTokens: []string{secret}, PublicURL: calls}, "US", tw, calls + "/v1/carriers/tw/voice" + quick},
		{CarrierKeys{
			Name: "tw2", Kind: Twilio, AccountSID: sid, AuthTokens: []string{secret}, PublicURL: calls, CallStatus: new(bool),
			FallbackURL: "https://fallback.example.com/twiml", MonthlyPrice: "1.15 USD",
		}, "US", tw, calls + "/v1/carriers/tw2/voice" + quick},
		{CarrierKeys{
			Name: "exo", Kind: Exotel, AccountSID: "callmask1", APIKey: "key", APIToken: secret, AppID: "77001",
			Secrets: []string{secret}, PublicURL: calls,
		}, "IN", exo, "http://my.exotel.com/callmask1/exoml/start_voice/77001"},
		{CarrierKeys{Name: "play", Kind: Sim, Secrets: []string{secret}, PublicURL: calls}, "ID", play, calls + "/v1/carriers/play/voice"},
	} {
		t.Run(c.keys.Name, func(t *testing.T) {
			web := httptest.NewServer(c.api)
			t.Cleanup(web.Close)
			of := Carrier{CarrierKeys: c.keys}
			require.True(t, of.Sells())
			numbers, err := of.Numbers(web.URL)
			require.NoError(t, err)
			t.Cleanup(numbers.Close)
			webhook := of.WebhookURL(numbers)
			require.Equal(t, c.want, webhook)
			offers, err := numbers.Search(t.Context(), c.region, 1)
			require.NoError(t, err)
			bought, err := numbers.Buy(t.Context(), offers[0].Number, "callmask:1")
			require.NoError(t, err)
			if of.Kind == Sim { // the others are attached with the purchase
				require.NoError(t, numbers.Configure(t.Context(), bought, webhook))
			} else {
				require.Equal(t, webhook, bought.WebhookURL)
			}
			list, err := numbers.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, webhook, list[len(list)-1].WebhookURL)
			require.Equal(t, bought.Ref, list[len(list)-1].Ref)
		})
	}
}
