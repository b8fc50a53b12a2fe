// Package browser holds the tests of the console in a real Chromium, against a whole
// callmask with a real Redis and JetStream: what people see, can click and can reach by
// keyboard, also on a telephone, in the dark, and while Redis or NATS is away. Every page
// is held against the accessibility rules of axe-core.
//
// Screenshots are kept in bin/screenshots, or where CALLMASK_SCREENSHOTS says.
package browser
