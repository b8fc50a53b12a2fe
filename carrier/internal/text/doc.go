// Package text writes and checks the bits of text that the carriers' answers share.
//
//	AppendJSON(dst, s) ─▶ "s" as a JSON string      AppendXML(dst, s) ─▶ s as XML text
//	AppendSeconds(dst, d) ─▶ whole seconds          Printable(s), Withheld(s)
package text
