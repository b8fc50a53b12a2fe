// Package tracing sends spans of the cold paths (the orders API, the handling of events,
// what the replenisher does) to an OpenTelemetry collector, when the standard OTEL_*
// variables ask for it.
//
//	traceparent of a request or a message ─▶ span ─▶ traceparent of what is published
//
// A nil *Tracer does nothing, and is what there is by default. The router's path has none of
// it: a call is answered in less time than a span takes to be made.
package tracing
