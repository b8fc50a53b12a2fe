package contract

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/docs"
)

// Messages checks messages against the AsyncAPI document.
type Messages struct {
	channels map[string]Channel
	compiler *jsonschema.Compiler
}

// Channel is what the document says of the messages on one subject.
type Channel struct {
	Message  string // its name in the document
	Address  string // the subject, with {parameters}
	Type     string // its ce-type; empty for what we only take
	Examples []json.RawMessage
}

const messagesURL = "https://callmask.example/asyncapi.json"

// AsyncAPI reads the document.
func AsyncAPI(t testing.TB) *Messages {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(docs.AsyncAPI))
	require.NoError(t, err)
	var doc struct {
		AsyncAPI string `json:"asyncapi"`
		Channels map[string]struct {
			Address string `json:"address"`
		} `json:"channels"`
		Components struct {
			Messages map[string]struct {
				Type     string `json:"x-ce-type"`
				Examples []struct {
					Payload json.RawMessage `json:"payload"`
				} `json:"examples"`
			} `json:"messages"`
		} `json:"components"`
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Equal(t, "3.0.0", doc.AsyncAPI)
	m := &Messages{channels: map[string]Channel{}, compiler: jsonschema.NewCompiler()}
	for name, c := range doc.Channels {
		message, ok := doc.Components.Messages[name]
		require.True(t, ok, "channel %s has no message of its name", name)
		channel := Channel{Message: name, Address: c.Address, Type: message.Type}
		for _, e := range message.Examples {
			channel.Examples = append(channel.Examples, e.Payload)
		}
		m.channels[c.Address] = channel
	}
	shut, err := closed(data)
	require.NoError(t, err)
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(shut))
	require.NoError(t, err)
	m.compiler.DefaultDraft(jsonschema.Draft7) // what AsyncAPI 3 says of its schemas
	m.compiler.AssertFormat()
	require.NoError(t, m.compiler.AddResource(messagesURL, root))
	for _, c := range m.Channels() {
		for _, e := range c.Examples {
			m.Check(t, c.Address, e)
		}
	}
	return m
}

// Channels returns all channels, by address.
func (m *Messages) Channels() []Channel {
	return slices.SortedFunc(maps.Values(m.channels), func(a, b Channel) int { return strings.Compare(a.Address, b.Address) })
}

// On returns the channel of a subject.
func (m *Messages) On(t testing.TB, subject string) Channel {
	t.Helper()
	for _, c := range m.channels {
		if matches(strings.Split(c.Address, "."), strings.Split(subject, ".")) {
			return c
		}
	}
	require.Fail(t, "a subject is not described", subject)
	return Channel{}
}

// matches: a parameter stands for one token, {origin} for all that follow.
func matches(address, subject []string) bool {
	for i, a := range address {
		switch {
		case i == len(subject):
			return false
		case a == "{origin}":
			return true
		case !strings.HasPrefix(a, "{") && a != subject[i]:
			return false
		}
	}
	return len(address) == len(subject)
}

// Check holds a payload against the schema of its subject.
func (m *Messages) Check(t testing.TB, subject string, payload []byte) {
	t.Helper()
	m.hold(t, subject, m.On(t, subject).Message+"/payload", payload)
}

// CheckHeaders holds the headers of a message that we published against the document.
func (m *Messages) CheckHeaders(t testing.TB, subject string, header map[string][]string) {
	t.Helper()
	c := m.On(t, subject)
	first := map[string]string{}
	for name, values := range header {
		require.Len(t, values, 1, "%s: %s", subject, name)
		first[name] = values[0]
	}
	delete(first, "Nats-Expected-Last-Subject-Sequence") // the stream's own
	delete(first, "Nats-Expected-Last-Subject-Sequence-Subject")
	data, err := json.Marshal(first)
	require.NoError(t, err)
	m.hold(t, subject, c.Message+"/headers", data)
	require.Equal(t, c.Type, first["ce-type"], subject)
	require.Equal(t, first["Nats-Msg-Id"], first["ce-id"], subject)
}

func (m *Messages) hold(t testing.TB, subject, at string, data []byte) {
	t.Helper()
	schema, err := m.compiler.Compile(messagesURL + "#/components/messages/" + at)
	require.NoError(t, err)
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err, "%s: %s", subject, data)
	require.NoError(t, schema.Validate(v), "%s: the message is not as described: %s", subject, data)
}
