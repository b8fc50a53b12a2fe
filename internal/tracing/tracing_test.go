package tracing_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/callmask/callmask/internal/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a call passes through knows nothing of tracing, not even by what it imports.
func TestTheRoutersPathHasNoTracing(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./router/...", "./carrier/...", "./scripts/...", "./seal/...", "./vn/...")
	list.Dir = "../.."
	out, err := list.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "github.com/valyala/fasthttp", "it lists what is imported")
	require.NotContains(t, string(out), "opentelemetry")
	require.NotContains(t, string(out), "internal/tracing")
}

func TestItIsOffUnlessTheEnvironmentAsksForIt(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{
		"":                    "off",
		"OTEL_SERVICE_NAME=x": "off",
		"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://x":                        "off",
		"OTEL_SDK_DISABLED=true OTEL_TRACES_EXPORTER=otlp":                                      "off",
		"OTEL_TRACES_EXPORTER=otlp":                                                             "on",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1":                                 "on",
		"OTEL_TRACES_EXPORTER=jaeger":                                                           `OTEL_TRACES_EXPORTER: is "jaeger"`,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                 `OTEL_EXPORTER_OTLP_PROTOCOL: is "grpc"`,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf":        "on",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=binary": `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: is "binary"`,
	} {
		vars := map[string]string{}
		for pair := range strings.FieldsSeq(env) {
			name, value, _ := strings.Cut(pair, "=")
			vars[name] = value
		}
		tracer, err := tracing.FromEnv(t.Context(), func(name string) (string, bool) { v, ok := vars[name]; return v, ok }, "all", zerolog.Nop())
		switch want {
		case "off":
			require.NoError(t, err, env)
			require.Nil(t, tracer, env)
		case "on":
			require.NoError(t, err, env)
			require.NotNil(t, tracer, env)
		default:
			require.ErrorContains(t, err, want)
		}
		require.NoError(t, tracer.Close(t.Context()), "there is nothing to send")
	}
}

func TestANilTracerDoesNothing(t *testing.T) {
	var none *tracing.Tracer
	ctx := t.Context()
	header := map[string][]string{}
	allocs := testing.AllocsPerRun(100, func() {
		c, served := none.Serve(ctx, "GET /", nil)
		served(500)
		c, handled := none.Handle(c, "orders.assigned", "allocator", header)
		handled("done", errors.ErrUnsupported)
		c, acted := none.Act(c, "fill a pool")
		acted(nil)
		if c != ctx {
			panic("another context")
		}
	})
	require.Zero(t, allocs)
	tracing.Inject(ctx, header)
	require.Empty(t, header)
}
