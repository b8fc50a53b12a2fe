package twilio_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/carrier/sim/twiliosim"
	"github.com/callmask/callmask/carrier/twilio"
)

func TestThePriceIsAskedForWhereTheSettingsNameNone(t *testing.T) {
	t.Parallel()
	s := open(t, twiliosim.Config{Prices: map[string]string{"ID": "25.00"}}, twilio.NumbersConfig{})
	n := s.client(t, twilio.NumbersConfig{PricingURL: s.url})
	for region, want := range map[string]string{"ID": "25.00", "US": "1.15"} {
		offers, err := n.Search(t.Context(), region, 1)
		require.NoError(t, err)
		require.Equal(t, want, offers[0].Price)
		require.Equal(t, "USD", offers[0].Currency)
	}
	s.asked()
	_, err := n.Search(t.Context(), "US", 1)
	require.NoError(t, err)
	require.Equal(t, []string{"GET /AvailablePhoneNumbers/US/Local.json"}, s.asked(), "a price is good for an hour")

	offers, err := n.Search(t.Context(), "FR", 1)
	require.NoError(t, err, "a country without a price")
	require.Empty(t, offers)

	n = s.client(t, twilio.NumbersConfig{PricingURL: s.url, Type: twilio.Mobile})
	_, err = n.Search(t.Context(), "US", 1)
	require.NoError(t, err, "a type without a price")

	n = s.client(t, twilio.NumbersConfig{PricingURL: s.url})
	s.Inject(sim.Fault{Kind: sim.Fail, Times: 3})
	_, err = n.Search(t.Context(), "US", 1)
	require.EqualError(t, err, "twilio: ask for the price of numbers: carrier API: HTTP 500, code 20500")
}

func TestAStrangePriceIsAnError(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"price_unit":"USD","phone_number_prices":[{"number_type":"local","current_price":"cheap"}]}`,
		`{"price_unit":"US Dollar","phone_number_prices":[{"number_type":"local","current_price":"1.15"}]}`,
		`{"price_unit":"USD","phone_number_prices":[{"number_type":"local","current_price":1.15}]}`,
		`[]`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		t.Cleanup(server.Close)
		n, err := twilio.NewNumbers(twilio.NumbersConfig{
			APIURL: server.URL, PricingURL: server.URL, AccountSID: accountSID, AuthToken: "token", Limits: carrier.Limits{PerSecond: 100},
		})
		require.NoError(t, err)
		t.Cleanup(n.Close)
		_, err = n.Search(t.Context(), "US", 1)
		require.ErrorContains(t, err, "not the JSON that was expected", body)
	}
}
