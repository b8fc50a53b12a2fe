package twilio

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/callmask/callmask/carrier"
)

// Configure lets calls to the number come to webhookURL, and sets the other addresses
// of NumbersConfig. It reads what the number has, writes only what differs, and may be
// repeated. carrier.ErrNotOwned: the account does not have the number.
func (n *Numbers) Configure(ctx context.Context, b carrier.Bought, webhookURL string) error {
	if !isSID(b.Ref, "PN") {
		return fmt.Errorf("twilio: configure a number: %w", errRef)
	}
	have, err := ask(ctx, n, func(s *openapi.ApiService) (*openapi.ApiV2010IncomingPhoneNumber, error) {
		return s.FetchIncomingPhoneNumber(b.Ref, nil)
	})
	if err != nil {
		return fmt.Errorf("twilio: read a number's settings: %w", n.meaning(err, ""))
	}
	changes := differences(have, n.settings(webhookURL))
	if changes == nil {
		return nil
	}
	have, err = ask(ctx, n, func(s *openapi.ApiService) (*openapi.ApiV2010IncomingPhoneNumber, error) {
		return s.UpdateIncomingPhoneNumber(b.Ref, changes)
	})
	if err != nil {
		return fmt.Errorf("twilio: configure a number: %w", n.meaning(err, ""))
	}
	if value(have.Sid) != b.Ref || differences(have, n.settings(webhookURL)) != nil {
		return errors.New("twilio: configure a number: the answer does not show the new settings")
	}
	return nil
}

// settings returns what a number must have. What is nil may be anything.
func (n *Numbers) settings(webhookURL string) *openapi.UpdateIncomingPhoneNumberParams {
	p := &openapi.UpdateIncomingPhoneNumberParams{}
	if webhookURL != "" {
		// An application or a trunk would get the calls instead; an empty id takes it off
		// (from memory, unverified: if not, Configure fails with the words above).
		p.SetVoiceUrl(webhookURL).SetVoiceMethod(http.MethodPost).SetVoiceApplicationSid("").SetTrunkSid("")
	}
	if n.cfg.FallbackURL != "" {
		p.SetVoiceFallbackUrl(n.cfg.FallbackURL).SetVoiceFallbackMethod(http.MethodPost)
	}
	if n.cfg.MessageURL != "" {
		p.SetSmsUrl(n.cfg.MessageURL).SetSmsMethod(http.MethodPost).SetSmsApplicationSid("")
	}
	if n.cfg.StatusURL != "" {
		p.SetStatusCallback(n.cfg.StatusURL).SetStatusCallbackMethod(http.MethodPost)
	}
	return p
}

// differences takes from want what the number has already; nil when nothing is left.
func differences(have *openapi.ApiV2010IncomingPhoneNumber, want *openapi.UpdateIncomingPhoneNumberParams) *openapi.UpdateIncomingPhoneNumberParams {
	left := false
	for _, s := range []struct {
		have *string
		want **string
	}{
		{have.VoiceUrl, &want.VoiceUrl},
		{have.VoiceMethod, &want.VoiceMethod},
		{have.VoiceApplicationSid, &want.VoiceApplicationSid},
		{have.TrunkSid, &want.TrunkSid},
		{have.VoiceFallbackUrl, &want.VoiceFallbackUrl},
		{have.VoiceFallbackMethod, &want.VoiceFallbackMethod},
		{have.SmsUrl, &want.SmsUrl},
		{have.SmsMethod, &want.SmsMethod},
		{have.SmsApplicationSid, &want.SmsApplicationSid},
		{have.StatusCallback, &want.StatusCallback},
		{have.StatusCallbackMethod, &want.StatusCallbackMethod},
	} {
		switch {
		case *s.want == nil:
		case **s.want == value(s.have):
			*s.want = nil
		default:
			left = true
		}
	}
	if !left {
		return nil
	}
	return want
}

// addSettings puts the settings into a purchase. A new number has no application and
// no trunk.
func (n *Numbers) addSettings(p *openapi.CreateIncomingPhoneNumberParams) {
	s := n.settings(n.cfg.WebhookURL)
	p.VoiceUrl, p.VoiceMethod = s.VoiceUrl, s.VoiceMethod
	p.VoiceFallbackUrl, p.VoiceFallbackMethod = s.VoiceFallbackUrl, s.VoiceFallbackMethod
	p.SmsUrl, p.SmsMethod = s.SmsUrl, s.SmsMethod
	p.StatusCallback, p.StatusCallbackMethod = s.StatusCallback, s.StatusCallbackMethod
}
