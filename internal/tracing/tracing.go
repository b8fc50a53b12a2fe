package tracing

import (
	"context"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes spans. A nil one makes none.
type Tracer struct {
	tracer   trace.Tracer
	provider *sdk.TracerProvider
}

// closeFor is how long an end waits for the last spans to be sent.
const closeFor = 3 * time.Second

// FromEnv returns a Tracer when the environment asks for one: by OTEL_TRACES_EXPORTER=otlp
// or by an endpoint (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), and
// not with OTEL_SDK_DISABLED=true; else nil. The rest of the OTEL_* variables is the SDK's
// to read. Close it after use.
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables
func FromEnv(ctx context.Context, env func(string) (string, bool), role string, log zerolog.Logger) (*Tracer, error) {
	value := func(name string) string { v, _ := env(name); return v }
	exporter := value("OTEL_TRACES_EXPORTER")
	endpoint := value("OTEL_EXPORTER_OTLP_ENDPOINT") + value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	switch {
	case strings.EqualFold(value("OTEL_SDK_DISABLED"), "true"), exporter == "none", exporter == "" && endpoint == "":
		return nil, nil //nolint:nilnil // a nil Tracer is one that does nothing
	case exporter != "" && exporter != "otlp":
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: is %q; otlp and none are known", exporter)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if p := value(name); p != "" && p != "http/protobuf" {
			return nil, fmt.Errorf("%s: is %q; http/protobuf is what callmask speaks", name, p)
		}
	}
	out, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	// What the variables say comes last, and counts.
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "callmask"), attribute.String("callmask.role", role),
	), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	sampled := log.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		sampled.Warn().Err(err).Msg("spans could not be sent")
	}))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(out), sdk.WithResource(res))
	return &Tracer{tracer: provider.Tracer("github.com/callmask/callmask"), provider: provider}, nil
}

// Close sends the spans that still wait, for 3 s at most.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeFor)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// Serve begins the span of a request for a route, as a child of the one that the request
// names.
func (t *Tracer) Serve(ctx context.Context, route string, header http.Header) (_ context.Context, end func(status int)) {
	if t == nil {
		return ctx, func(int) {}
	}
	ctx, span := t.tracer.Start(parent(ctx, header), route, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(status int) {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
		span.End()
	}
}

// Handle begins the span of the handling of a message, as a child of the one that its
// header names.
func (t *Tracer) Handle(ctx context.Context, subject, consumer string, header map[string][]string) (_ context.Context, end func(verdict string, err error)) {
	if t == nil {
		return ctx, func(string, error) {}
	}
	ctx, span := t.tracer.Start(parent(ctx, header), "handle "+subject, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("messaging.system", "nats"), attribute.String("messaging.consumer.group.name", consumer)))
	return ctx, func(verdict string, err error) {
		span.SetAttributes(attribute.String("callmask.verdict", verdict))
		finish(span, err)
	}
}

// Act begins the span of something that nobody else has asked for. The attributes are pairs
// of names and values, without numbers of people.
func (t *Tracer) Act(ctx context.Context, name string, attributes ...string) (_ context.Context, end func(error)) {
	if t == nil {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, name)
	for i := 0; i+1 < len(attributes); i += 2 {
		span.SetAttributes(attribute.String(attributes[i], attributes[i+1]))
	}
	return ctx, func(err error) { finish(span, err) }
}

func finish(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Inject names the span of ctx, if there is one, in the header of a message.
func Inject(ctx context.Context, header map[string][]string) {
	propagation.TraceContext{}.Inject(ctx, fields(header))
}

func parent(ctx context.Context, header map[string][]string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, fields(header))
}

// fields are headers of HTTP, whose names are written in one way, or of NATS, which keeps
// them as they are.
type fields map[string][]string

// Get implements propagation.TextMapCarrier.
func (f fields) Get(key string) string {
	for _, name := range []string{key, textproto.CanonicalMIMEHeaderKey(key)} {
		if v := f[name]; len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (f fields) Set(key, value string) { f[key] = []string{value} }

// Keys implements propagation.TextMapCarrier.
func (f fields) Keys() []string {
	keys := make([]string, 0, len(f))
	for k := range f {
		keys = append(keys, k)
	}
	return keys
}
