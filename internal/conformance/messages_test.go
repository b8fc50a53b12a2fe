package conformance

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

// TestEveryCarrierRelaysMessagesAlike holds every kind of carrier that takes messages
// against the same ones, and the others to saying that they do not.
func TestEveryCarrierRelaysMessagesAlike(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, r *rig) {
		t.Helper()
		if _, ok := r.phone.(texter); !ok {
			r.notSupported(t, "sms")
			return
		}
		t.Run("both ways", r.messagesBothWays)
		t.Run("dropped", r.droppedMessages)
		t.Run("stop words", r.stopWords)
		t.Run("files", r.files)
		t.Run("not authentic", r.forgedMessages)
		t.Run("twice", r.messageTwice)
		t.Run("hostile values", r.hostileMessages)
	})
}

// notSupported holds that a carrier without this verb is told so, whatever it sends.
func (r *rig) notSupported(t *testing.T, verb string) {
	t.Helper()
	if r.resolver {
		return // it has no webhooks at all
	}
	r.told.take()
	c := r.good()
	c.path = path(verb)
	a := r.send(t, r.phone.ring(c))
	require.Equal(t, http.StatusNotImplemented, a.status)
	require.Equal(t, taken{}, r.told.take())
}

// writing is a message from the customer to the agent, signed now by the first key.
func (r *rig) writing(text string) texting {
	m := texting{ringing: r.good(), body: text}
	m.path = path("sms")
	return m
}

func (r *rig) text(t *testing.T, m texting) *http.Request {
	t.Helper()
	return r.phone.(texter).text(m)
}

// message sends a message and reads the answer as the carrier does.
func (r *rig) message(t *testing.T, m texting) (relay, answer) {
	t.Helper()
	a := r.send(t, r.text(t, m))
	got, err := r.phone.(texter).relayed(a.status, a.contentType, []byte(a.body))
	requireNone(t, err)
	return got, a
}

// requireRelayed checks that the text goes out to the number, and only there.
func (r *rig) requireRelayed(t *testing.T, got *relay, a *answer, to, from vn.Number, text string) {
	t.Helper()
	require.True(t, got.sent, "the message is not sent: %s", a)
	requireNumber(t, to, got.to, "the receiver")
	requireNumber(t, from, got.from, "the sender that is shown")
	require.Equal(t, text, got.text)
	require.Equal(t, 1, times(a.body, to), "the receiver's number stands in one place of %s", a)
}

func (r *rig) messagesBothWays(t *testing.T) {
	r.told.take()
	const text = "I am at the door. Is it 12 or 14?"
	got, a := r.message(t, r.writing(text))
	r.requireRelayed(t, &got, &a, r.agent, r.live.ofCustomer, text)
	require.Zero(t, times(a.body, r.customer), "the sender's own number stands in %s", &a)
	back := r.writing(text)
	back.calling, back.called = r.agent.E164(), r.live.ofCustomer.E164()
	got, a = r.message(t, back)
	r.requireRelayed(t, &got, &a, r.customer, r.live.ofAgent, text)
	messages := r.told.take().messages
	require.Len(t, messages, 2)
	for _, m := range messages {
		require.NotEmpty(t, m.id)
		require.Equal(t, toldMessage{m.id, r.live.id, vn.Relay}, m)
	}
}

// dropped sends a message and checks that the carrier does nothing.
func (r *rig) dropped(t *testing.T, m texting) answer {
	t.Helper()
	r.told.take()
	got, a := r.message(t, m)
	require.False(t, got.sent, "the message is sent on: %s", &a)
	for _, n := range []vn.Number{r.customer, r.agent, r.stranger} {
		require.Zero(t, times(a.body, n), "a real number is in %s", &a)
	}
	messages := r.told.take().messages
	require.Len(t, messages, 1)
	require.Equal(t, vn.Drop, messages[0].verdict)
	return a
}

func (r *rig) droppedMessages(t *testing.T) {
	stranger := r.writing("who is there?")
	stranger.calling = r.stranger.E164()
	first := r.dropped(t, stranger)
	for what, c := range map[string]struct{ calling, called vn.Number }{
		"a number of nobody":       {r.customer, r.unassigned},
		"an order that ended":      {r.customer, r.ended.ofAgent},
		"another carrier's number": {r.customer, r.foreign.ofAgent},
	} {
		for media := range 2 {
			m := r.writing("who is there?")
			m.calling, m.called, m.media = c.calling.E164(), c.called.E164(), media
			a := r.dropped(t, m)
			require.True(t, a.same(&first), "%s is told from a stranger: %s and %s", what, &a, &first)
		}
	}
	empty := r.dropped(t, r.writing(" "))
	require.True(t, empty.same(&first))
}

func (r *rig) stopWords(t *testing.T) {
	for _, word := range []string{"STOP", "stop", " Stop. ", "UNSUBSCRIBE", "cancel", "END", "quit", "START", "STOPALL"} {
		r.dropped(t, r.writing(word))
	}
	const text = "Please stop at the corner"
	got, a := r.message(t, r.writing(text))
	r.requireRelayed(t, &got, &a, r.agent, r.live.ofCustomer, text)
}

// files holds that a file is refused towards its sender, with and without a text.
func (r *rig) files(t *testing.T) {
	for _, text := range []string{"look", ""} {
		r.told.take()
		m := r.writing(text)
		m.media = 1
		got, a := r.message(t, m)
		require.True(t, got.sent, "the sender is not told: %s", &a)
		requireNumber(t, r.customer, got.to, "the receiver")
		requireNumber(t, r.live.ofAgent, got.from, "the sender that is shown")
		require.NotEmpty(t, got.text)
		require.Zero(t, times(a.body, r.agent), "the other party's number is in %s", &a)
		if text != "" {
			require.NotContains(t, got.text, text)
		}
		require.Equal(t, vn.RefuseMedia, r.told.take().messages[0].verdict)
	}
}

func (r *rig) forgedMessages(t *testing.T) {
	wrong, changed := r.writing("hello"), r.writing("hello")
	wrong.key, changed.tampered = -1, true
	r.requireForbidden(t, r.text(t, wrong), "a key that is not ours")
	r.requireForbidden(t, r.text(t, changed), "one byte changed")
	r.requireForbidden(t, r.unsigned(r.text(t, r.writing("hello"))), "no signature")
	if window := r.phone.window(); window > 0 {
		old := r.writing("hello")
		old.at = old.at.Add(-window - 5*time.Second)
		r.requireForbidden(t, r.text(t, old), "after the window")
	}
	second := r.writing("hello")
	second.key = 1
	got, a := r.message(t, second)
	r.requireRelayed(t, &got, &a, r.agent, r.live.ofCustomer, "hello")
}

// messageTwice holds that a message announced again gets the same answer, which is the
// carrier's to act on once, and changes nothing.
func (r *rig) messageTwice(t *testing.T) {
	before := r.state(t)
	r.told.take()
	req := r.text(t, r.writing("hello"))
	first, second := r.send(t, req), r.send(t, req)
	require.True(t, first.same(&second))
	messages := r.told.take().messages
	require.Len(t, messages, 2)
	require.Equal(t, messages[0], messages[1])
	require.Equal(t, before, r.state(t))
}

// hostileMessages puts odd values into the text and into every field that the router
// does not need. What XML or JSON cannot hold becomes U+FFFD.
func (r *rig) hostileMessages(t *testing.T) {
	for i, value := range hostile() {
		m := r.writing("hello")
		m.hostile = value
		got, a := r.message(t, m)
		r.requireRelayed(t, &got, &a, r.agent, r.live.ofCustomer, "hello")

		text := "text " + value + " end"
		got, a = r.message(t, r.writing(text))
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }) {
			text = got.text // it arrives, in what form does not matter
			require.True(t, strings.HasPrefix(text, "text ") && strings.HasSuffix(text, " end"), "value %d", i)
		}
		r.requireRelayed(t, &got, &a, r.agent, r.live.ofCustomer, text)
	}
}
