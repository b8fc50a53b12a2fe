// The signatures that the tests hold, each with the carrier's own verifier.
import { createHash } from 'node:crypto';
import { WebhookResponse } from '@jambonz/sdk/webhook';
import { verifySignature } from '@vonage/jwt';
import plivo from 'plivo';
import Telnyx from 'telnyx';
import twilio from 'twilio';

// other returns a signature that differs in one character.
const other = (signature, at = 5) => signature.slice(0, at) + (signature[at] === 'A' ? 'B' : 'A') + signature.slice(at + 1);

// claims are those of a JSON Web Token.
const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

export const signatures = {
  twilio: {
    vectors: (file) => file.twilio,
    accepts: (v) => v.body === undefined
      ? twilio.validateRequest(v.auth_token, v.signature, v.url, v.params)
      : twilio.validateRequestWithBody(v.auth_token, v.signature, v.url, v.body),
    spoil: (v) => ({ ...v, signature: other(v.signature) }),
  },
  plivo: {
    vectors: (file) => file.plivo_v3,
    // The verifier sorts the values of a repeated key in place.
    accepts: (v) => plivo.validateV3Signature(v.method, v.url, v.nonce, v.auth_token, v.signature, structuredClone(v.params)),
    spoil: (v) => ({ ...v, signature: other(v.signature) }),
  },
  telnyx: {
    vectors: (file) => [file.telnyx],
    accepts: async (v) => {
      const now = Date.now;
      Date.now = () => v.timestamp * 1000; // the verifier takes a request of the last five minutes
      try {
        await new Telnyx({ apiKey: 'none', publicKey: v.public_key_b64 }).webhooks.unwrap(
          v.body, { headers: { 'telnyx-signature-ed25519': v.signature, 'telnyx-timestamp': v.timestamp } });
        return true;
      } catch {
        return false;
      } finally {
        Date.now = now;
      }
    },
    spoil: (v) => ({ ...v, signature: other(v.signature) }),
  },
  vonage: {
    vectors: (file) => [file.vonage],
    accepts: (v) => {
      const token = v.authorization.replace('Bearer ', '');
      return verifySignature(token, v.secret) && claims(token).payload_hash === createHash('sha256').update(v.body).digest('hex');
    },
    spoil: (v) => ({ ...v, authorization: other(v.authorization, v.authorization.lastIndexOf('.') + 5) }),
  },
  jambonz: {
    vectors: (file) => [file.jambonz],
    accepts: (v) => {
      let refused;
      WebhookResponse.verifySignature(v.secret, { tolerance: Infinity })(
        { headers: { 'jambonz-signature': v.header.replace('Jambonz-Signature: ', '') }, body: v.body }, {}, (error) => { refused = error; });
      return !refused;
    },
    spoil: (v) => ({ ...v, header: other(v.header, v.header.length - 5) }),
  },
};
