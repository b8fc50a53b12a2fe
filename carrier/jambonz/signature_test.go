package jambonz

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/vn"
)

func TestTheSignatureOfJambonzsOwnLibraryIsAccepted(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/signatures.json")
	require.NoError(t, err)
	var file struct {
		Jambonz struct {
			Secret    string
			Timestamp int64
			Body      string
			Header    string
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	v := file.Jambonz
	name, value, ok := strings.Cut(v.Header, ": ")
	require.True(t, ok)
	require.Equal(t, signatureHeader, name)
	now := func() time.Time { return time.Unix(v.Timestamp, 0).Add(time.Minute) }
	for _, secrets := range [][]string{{v.Secret}, {"old", v.Secret}, {v.Secret, "new"}} {
		ctx := post("/x", v.Body)
		ctx.Request.Header.Set(signatureHeader, value)
		var call vn.Call
		require.NoError(t, codec(t, Config{Secrets: secrets, Now: now}).Decode(ctx, nil, &call))
		require.Equal(t, "s", string(call.ID))
		require.True(t, call.Calling == 919876543210 && call.Called == 918047091234)
	}
	ctx := post("/x", v.Body)
	ctx.Request.Header.Set(signatureHeader, value)
	require.ErrorIs(t, codec(t, Config{Secrets: []string{"another"}, Now: now}).Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden)
}

func TestASignatureIsReadInAnyOrderAndOfAnySecret(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{Secrets: []string{secret, next}})
	one := header(noon, good, secret)
	stamp, v1, _ := strings.Cut(one, ",")
	for name, value := range map[string]string{
		"as jambonz writes it": one,
		"by the next secret":   header(noon, good, next),
		"by both":              header(noon, good, secret, next),
		"a foreign one first":  header(noon, good, "foreign", secret),
		"a foreign one last":   header(noon, good, secret, "foreign"),
		"time last":            v1 + "," + stamp,
		"time between":         header(noon, good, "foreign")[len(stamp)+1:] + "," + stamp + "," + v1,
		"an older version too": stamp + ",v0=abc," + v1,
		"seven":                header(noon, good, "a", "b", "c", "d", "e", "f", secret),
		"at the window's end":  header(noon.Add(-window), good, secret),
		"from its other end":   header(noon.Add(window), good, secret),
	} {
		ctx := post("/x", good)
		ctx.Request.Header.Set(signatureHeader, value)
		require.NoError(t, c.Decode(ctx, nil, new(vn.Call)), name)
		known, err := c.DecodeProgress(ctx, nil, new(vn.Progress))
		require.NoError(t, err, name)
		require.False(t, known, "the call is being tried")
	}
}

func TestWithoutAValidSignatureNothingElseIsTold(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{Secrets: []string{secret, next}})
	one := header(noon, good, secret)
	stamp, v1, _ := strings.Cut(one, ",")
	for name, value := range map[string]string{
		"none": "", "another secret": header(noon, good, "wh_three"), "another body": header(noon, good+" ", secret),
		"too old": header(noon.Add(-window-time.Second), good, secret), "from the future": header(noon.Add(window+time.Second), good, secret),
		"another time": strings.Replace(one, "t=1", "t=2", 1), "no time": v1, "time alone": stamp, "two times": one + "," + stamp,
		"an empty time": "t=," + v1, "a negative time": strings.Replace(one, "t=", "t=-", 1), "a signed time": strings.Replace(one, "t=", "t=+", 1),
		"a huge time": "t=" + strings.Repeat("9", 30) + "," + v1, "time in words": "t=noon," + v1, "a fraction": strings.Replace(one, ",", ".0,", 1),
		"upper case": strings.ToUpper(one), "upper-case hex": stamp + ",v1=" + strings.ToUpper(v1[3:]), "cut": one[:len(one)-1], "longer": one + "0",
		"version 0": stamp + ",v0=" + v1[3:], "no version": stamp + "," + v1[3:], "spaces": stamp + ", " + v1, "an empty part": stamp + ",," + v1,
		"a comma at the end": one + ",", "semicolons": strings.Replace(one, ",", ";", 1),
		"endless": header(noon, good, "a", "b", "c", "d", "e", "f", "g", secret),
	} {
		ctx := post("/x", good)
		ctx.Request.Header.Set(signatureHeader, value)
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, name)
		_, err := c.DecodeProgress(ctx, nil, new(vn.Progress))
		require.ErrorIs(t, err, vn.ErrForbidden, name)
		nonsense := post("/x?order_id=", "nonsense")
		nonsense.Request.Header.Set(signatureHeader, value)
		_, err = c.DecodeProgress(nonsense, nil, new(vn.Progress))
		require.ErrorIs(t, err, vn.ErrForbidden, name)
	}
	get := post("/x", good)
	get.Request.Header.SetMethod("GET")
	require.ErrorIs(t, c.Decode(get, nil, new(vn.Call)), vn.ErrForbidden, "a GET has no body that is signed")
}

// change calls f with every text that differs from original by one byte replaced,
// inserted or left out.
func change(original []byte, f func(changed []byte, how string)) {
	for i := range original {
		for _, b := range []byte{original[i] ^ 1, original[i] ^ 0x20, ',', '=', '"', ' ', '0', 0} {
			if b != original[i] {
				f(append(append(bytes.Clone(original[:i]), b), original[i+1:]...), "replaced")
			}
		}
		for _, b := range []byte{',', '=', '0', ' ', 'v'} {
			f(append(append(bytes.Clone(original[:i]), b), original[i:]...), "inserted")
		}
		f(append(bytes.Clone(original[:i]), original[i+1:]...), "left out")
	}
}

func TestEverySingleByteChangeOfASignedRequestIsRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, Config{})
	signed := post("/x", good)
	require.NoError(t, c.Decode(signed, nil, new(vn.Call)))
	value := bytes.Clone(signed.Request.Header.Peek(signatureHeader))
	change(value, func(changed []byte, how string) {
		ctx := post("/x", good)
		ctx.Request.Header.SetBytesV(signatureHeader, changed)
		if bytes.Equal(ctx.Request.Header.Peek(signatureHeader), value) {
			return // what cannot stand in a header is dropped before it gets here
		}
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "signature %s: %q", how, changed)
	})
	change([]byte(good), func(changed []byte, how string) {
		if string(changed) == good {
			return
		}
		ctx := post("/x", good)
		ctx.Request.SetBody(changed)
		require.ErrorIs(t, c.Decode(ctx, nil, new(vn.Call)), vn.ErrForbidden, "body %s: %q", how, changed)
	})
}

// FuzzSignature feeds headers to the parser: it never panics, and accepts only what holds
// the one right signature.
func FuzzSignature(f *testing.F) {
	f.Add(header(noon, good, secret))
	f.Add("t=1,v1=,v1=")
	f.Add(",=,t,v1")
	c := codec(f, Config{})
	_, right, _ := strings.Cut(header(noon, good, secret), ",")
	f.Fuzz(func(t *testing.T, value string) {
		ctx := post("/x", good)
		ctx.Request.Header.Set(signatureHeader, value)
		if _, ok := c.signed(ctx); ok {
			require.Contains(t, value, right)
		}
	})
}
