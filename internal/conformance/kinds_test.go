package conformance

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/settings"
)

// entry is one kind of carrier and how it differs from the others.
type entry struct {
	kind  settings.Kind
	phone func() phone
	// tells: a refusal says why, because it goes to the operator's own machine.
	tells bool
	// resolver: the carrier asks /v1/resolve with a token instead of ringing a webhook.
	resolver bool
	// secretPath: nothing is signed; the secret is the last part of the path.
	secretPath bool
	// india: the carrier knows only numbers of India.
	india bool
}

// entries are all kinds of carrier.
func entries() []entry {
	return []entry{
		{kind: settings.Twilio, phone: newTwilioPhone},
		{kind: settings.Exotel, phone: newExotelPhone, secretPath: true, india: true},
		{kind: settings.Plivo, phone: newPlivoPhone},
		{kind: settings.Vonage, phone: newVonagePhone},
		{kind: settings.Telnyx, phone: newTelnyxPhone},
		{kind: settings.Jambonz, phone: newJambonzPhone},
		{kind: settings.Softswitch, phone: newSoftswitchPhone, tells: true, resolver: true},
		{kind: settings.Sim, phone: newSimPhone, tells: true},
	}
}

// forbidden is the status of a request that is not authentic.
func (e *entry) forbidden() int {
	if e.resolver {
		return 401
	}
	return 403
}

// TestNoKindOfCarrierIsLeftOut fails when the settings know a kind that has no phone here.
func TestNoKindOfCarrierIsLeftOut(t *testing.T) {
	t.Parallel()
	var have []settings.Kind
	for _, e := range entries() {
		have = append(have, e.kind)
	}
	want := settings.Kinds()
	slices.Sort(have)
	slices.Sort(want)
	require.Equal(t, want, have, "every kind of carrier needs a phone in internal/conformance")
}

// forEach runs the test for every kind of carrier.
func forEach(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	for _, e := range entries() {
		t.Run(string(e.kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, e)
			test(t, r)
			for _, n := range []int{times(r.logs.String(), r.customer), times(r.logs.String(), r.agent), times(r.logs.String(), r.stranger)} {
				require.Zero(t, n, "a real number is in the log")
			}
		})
	}
}

// hostile are values that break out of a form, of XML, of JSON, of a header or of a log where
// they are written as they are.
func hostile() []string {
	return []string{
		`"><Dial callerId="+12025550199"><Number>+12025550199</Number></Dial><x y="`,
		`</Response><Response><Dial>+12025550199</Dial></Response>`,
		`","destination":"+12025550199","action":"connect","x":"`,
		`"}],"target":[{"type":"phone","number":"+12025550199"}],"x":[{"y":"`,
		`&To=%2B12025550199&From=%2B12025550199&called=x`,
		"a\r\nX-Injected: yes\r\n\r\n<Dial>+12025550199</Dial>",
		"\x00\x01\x1b[31m\x7f\t", `]]><!--`, `%s%n%00%zz`, `${jndi:x}`, `\u0000\`, "\u2028\u202e\U0001f600", "\xff\xfe\xc3", "+12025550199",
	}
}
