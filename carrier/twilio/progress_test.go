package twilio

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

const statusPath = "/v1/carriers/twilio/status"

// dialled are the fields of the request to the action of <Dial>.
func dialled() url.Values {
	f := fields()
	f.Set("CallStatus", "in-progress")
	f.Set("DialBridged", "true")
	f.Set("DialCallDuration", "42")
	f.Set("DialCallSid", "CAdddddddddddddddddddddddddddddddd")
	f.Set("DialCallStatus", "completed")
	return f
}

// child are the fields of a status callback of the leg that <Dial> made.
func child() url.Values {
	f := fields()
	f.Set("CallSid", "CAdddddddddddddddddddddddddddddddd")
	f.Set("ParentCallSid", "CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	f.Set("CallbackSource", "call-progress-events")
	f.Set("CallStatus", "busy")
	f.Set("CallDuration", "7")
	f.Set("SipResponseCode", "486")
	f.Set("Timestamp", "Wed, 25 Nov 2026 18:21:12 +0500")
	return f
}

func TestDecodeProgressTellsTheCalleesLeg(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{StatusURL: statusURL})
	at := time.Date(2026, 11, 25, 13, 21, 12, 0, time.UTC)
	id := []byte("CAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	for name, test := range map[string]struct {
		form url.Values
		want vn.Progress
	}{
		"dialled": {dialled(), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegCompleted, Duration: 42 * time.Second}},
		"child":   {child(), vn.Progress{Leg: vn.CalleeLeg, Status: vn.LegBusy, Cause: []byte("486"), At: at}},
		"parent":  {fields(), vn.Progress{Leg: vn.CallerLeg, Status: vn.LegRinging}},
	} {
		for query, order := range map[string]string{"?order_id=order:1.2_3-x": "order:1.2_3-x", "": ""} {
			p := vn.Progress{Cause: []byte("of before")}
			known, err := c.DecodeProgress(post(t, statusPath+query, test.form), nil, &p)
			require.NoError(t, err, name)
			require.True(t, known, name)
			want := test.want
			want.CallID = id
			if order != "" {
				want.OrderID = []byte(order)
			}
			require.Equal(t, want, p, name)
		}
	}
	body, mediaType := c.AppendProgressAnswer([]byte("before"))
	require.Equal(t, "before"+golden(t, "progress"), string(body))
	require.Equal(t, "text/xml", mediaType)
}

func TestOnlyTwilioTellsProgress(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	const uri = statusPath + "?order_id=order-1"
	var p vn.Progress
	forged := post(t, uri, dialled())
	forged.Request.Header.Set(signatureHeader, sign("wrong", public+uri, dialled()))
	other := post(t, uri, dialled())
	other.Request.Header.SetRequestURI(statusPath + "?order_id=order-2")
	f := dialled()
	f.Set("AccountSid", "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	body := post(t, uri, dialled())
	body.Request.SetBodyString(strings.Replace(dialled().Encode(), "DialCallStatus=completed", "DialCallStatus=completef", 1))
	for name, ctx := range map[string]func() (bool, error){
		"forged":  func() (bool, error) { return c.DecodeProgress(forged, nil, &p) },
		"query":   func() (bool, error) { return c.DecodeProgress(other, nil, &p) },
		"body":    func() (bool, error) { return c.DecodeProgress(body, nil, &p) },
		"account": func() (bool, error) { return c.DecodeProgress(post(t, uri, f), nil, &p) },
	} {
		known, err := ctx()
		require.ErrorIs(t, err, vn.ErrForbidden, name)
		require.False(t, known, name)
		require.Equal(t, vn.Progress{}, p, name)
	}
}
