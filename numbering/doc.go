// Package numbering reads telephone numbers as people and systems write them, for
// cold paths: orders, imports, settings. It knows the numbering plans of the world
// through nyaruka/phonenumbers, which it alone imports. The hot path reads E.164 by
// vn.ParseE164 instead.
//
//	"0812-3456-7890", "ID" ──Parse──▶ vn.Number +6281234567890 ──Region──▶ "ID"
package numbering
