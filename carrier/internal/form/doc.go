// Package form reads application/x-www-form-urlencoded text (a query, a form body)
// as the carriers send it, without allocating.
//
//	"From=%2B1…&To=%2B1…" ──Parse──▶ []Param{Key, Value} ──Get──▶ one value or a *vn.FieldError
package form
