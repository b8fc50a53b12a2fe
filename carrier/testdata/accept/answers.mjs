// The golden answers, each with what the carrier's own builder writes for the same call.
import assert from 'node:assert/strict';
import jambonz from '@jambonz/verb-specifications';
import plivo from 'plivo';
import { SaxesParser } from 'saxes';
import twilio from 'twilio';
import { Connect, NCCOBuilder, Talk } from '@vonage/voice';

const unavailable = 'The number you have dialled is not available.';
const textOnly = 'This number takes text only: pictures and files are not passed on.';
const status = (carrier, order) => `https://calls.example.com/v1/carriers/${carrier}/status?order_id=${order}`;

// tree is a document without what means nothing: the order of attributes, the way a
// character is written. saxes refuses whatever is not well formed.
const tree = (xml) => {
  const open = [{ elements: [] }];
  const parser = new SaxesParser();
  parser.on('error', (error) => { throw error; });
  parser.on('opentag', ({ name, attributes }) => {
    const element = { name, attributes: { ...attributes }, text: '', elements: [] };
    open.at(-1).elements.push(element);
    open.push(element);
  });
  parser.on('text', (text) => { open.at(-1).text += text; });
  parser.on('closetag', () => open.pop());
  parser.write(xml).close();
  return open[0].elements;
};

const xml = (build) => (golden) => assert.deepEqual(tree(golden), tree(build()));

// TwiML, and TeXML, which Telnyx documents as the same markup; npm telnyx builds none.
const twiml = (build) => xml(() => {
  const response = new twilio.twiml.VoiceResponse();
  build(response);
  return response.toString();
});
const texts = (build) => xml(() => {
  const response = new twilio.twiml.MessagingResponse();
  build(response);
  return response.toString();
});
const dial = (more) => twiml((r) => r.dial({ callerId: '+12025550102', timeout: 30, timeLimit: 3600, ...more }).number('+447700900123'));
const voice = (carrier, more) => ({
  [`${carrier}/testdata/connect.xml`]: dial(more),
  [`${carrier}/testdata/connect_status.xml`]: dial({ ...more, action: status(carrier, 'order:1.2_3-x'), method: 'POST' }),
  [`${carrier}/testdata/reject.xml`]: twiml((r) => r.reject({ reason: 'rejected' })),
  [`${carrier}/testdata/busy.xml`]: twiml((r) => r.reject({ reason: 'busy' })),
  [`${carrier}/testdata/say.xml`]: twiml((r) => { r.say({ language: 'id-ID' }, 'A <b> & "c"'); r.hangup(); }),
  [`${carrier}/testdata/progress.xml`]: twiml((r) => r.hangup()),
});

const plivoXML = (build) => xml(() => {
  const response = plivo.Response();
  build(response);
  return response.toXML();
});
const plivoDial = (more) => plivoXML((r) => r.addDial({ callerId: '12025550102', callerName: '+12025550102', timeout: 30, timeLimit: 3600, ...more }).addNumber('447700900123'));
const plivoStatus = `${status('plivo', 'order-1')}&stop=1`; // the mark behind the order's id

const ncco = (...actions) => (golden) => {
  const builder = new NCCOBuilder();
  for (const action of actions) builder.addAction(action);
  assert.deepEqual(JSON.parse(golden), JSON.parse(JSON.stringify(builder.build())));
};
const connect = (eventURL) => new Connect(
  { type: 'phone', number: '447700900123' }, '12025550102', undefined, undefined, 30, 3600, undefined, eventURL);

const verbs = (golden) => jambonz.validate(console, JSON.parse(golden));

export const answers = {
  ...voice('twilio', { answerOnBridge: true }),
  'twilio/testdata/relay.xml': texts((r) => r.message({ from: '+12025550102', to: '+447700900123' }, 'I am at the "door" <3 & ring twice\n😀')),
  'twilio/testdata/media.xml': texts((r) => r.message({ from: '+12025550101', to: '+12025550100' }, textOnly)),
  'twilio/testdata/drop.xml': texts(() => {}),

  ...voice('telnyx', {}),

  'plivo/testdata/connect.xml': plivoDial({}),
  'plivo/testdata/connect_status.xml': plivoDial({
    action: plivoStatus, method: 'POST', redirect: 'false', callbackUrl: plivoStatus, callbackMethod: 'POST',
  }),
  'plivo/testdata/reject.xml': plivoXML((r) => r.addHangup({ reason: 'rejected' })),
  'plivo/testdata/busy.xml': plivoXML((r) => r.addHangup({ reason: 'busy' })),
  'plivo/testdata/say.xml': plivoXML((r) => { r.addSpeak(unavailable); r.addHangup(); }),
  'plivo/testdata/say_escaped.xml': plivoXML((r) => { r.addSpeak('A <b> & "c"', { language: 'es-ES' }); r.addHangup(); }),
  'plivo/testdata/message.xml': plivoXML((r) => r.addMessage('5 < 6 & café "x"', { src: '12025550102', dst: '447700900123', type: 'sms' })),
  'plivo/testdata/message_media.xml': plivoXML((r) => r.addMessage(textOnly, { src: '12025550101', dst: '12025550100', type: 'sms' })),
  'plivo/testdata/nothing.xml': plivoXML(() => {}),

  'vonage/testdata/connect.json': ncco(connect()),
  'vonage/testdata/connect_status.json': ncco(connect(status('vonage', 'order-1'))),
  'vonage/testdata/refusal.json': ncco(new Talk(unavailable)),
  'vonage/testdata/refusal_language.json': ncco(new Talk('Nomor "ini" tidak tersedia.\n\\', undefined, undefined, undefined, 'id-ID')),

  'jambonz/testdata/dial.json': verbs,
  'jambonz/testdata/dial-trunk-status.json': verbs,
  'jambonz/testdata/decline.json': verbs,
  'jambonz/testdata/busy.json': verbs,
  'jambonz/testdata/say.json': verbs,
  'jambonz/testdata/say-language.json': verbs,
};
