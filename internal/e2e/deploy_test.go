//go:build !race

package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

const root = "../../"

// command runs a program and requires that it succeeds.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(root + path)
	require.NoError(t, err)
	return string(data)
}

// requireSettings: every CALLMASK_… that a file sets is a setting that exists.
func requireSettings(t *testing.T, path, text string) {
	t.Helper()
	known := read(t, "docs/settings.md")
	used := regexp.MustCompile(`\bCALLMASK_[A-Z_]+\b`).FindAllString(text, -1)
	require.NotEmpty(t, used, path)
	for _, name := range used {
		require.Contains(t, known, "| `"+name+"` |", path)
	}
}

// requireFile: the binary itself accepts a settings file.
func requireFile(t *testing.T, text string) {
	t.Helper()
	binary, err := executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "callmask.yaml")
	writeFile(t, path, text)
	cmd := exec.CommandContext(t.Context(), binary, "config", "--config", path)
	cmd.Env = []string{"PBX_TOKEN=a-token-of-the-switch"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

type object = map[string]any

// at follows a path of keys through objects and lists.
func at(v any, path ...any) any {
	for _, key := range path {
		switch k := key.(type) {
		case string:
			m, _ := v.(object)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func manifests(t *testing.T, flags ...string) []object {
	t.Helper()
	helm := strings.TrimSpace(command(t, root+".ci/tools", "helm", "v3.22.0"))
	args := append([]string{"template", "shop", root + "deploy/helm/callmask", "--kube-version", "1.31.0", "--set", "existingSecret=callmask-secrets"}, flags...)
	decoder := yaml.NewDecoder(strings.NewReader(command(t, helm, args...)))
	var all []object
	for {
		var o object
		err := decoder.Decode(&o)
		if err == io.EOF { //nolint:errorlint // the decoder gives it as it is
			return all
		}
		require.NoError(t, err)
		if o != nil {
			all = append(all, o)
		}
	}
}

func TestTheChartRunsTheRolesApart(t *testing.T) {
	t.Parallel()
	helm := strings.TrimSpace(command(t, root+".ci/tools", "helm", "v3.22.0"))
	command(t, helm, "lint", "--strict", root+"deploy/helm/callmask", "--kube-version", "1.31.0", "--set", "existingSecret=s")
	out, err := exec.CommandContext(t.Context(), helm, "template", root+"deploy/helm/callmask", "--kube-version", "1.31.0").CombinedOutput()
	require.Error(t, err, "secrets are never made up")
	require.Contains(t, string(out), "existingSecret")

	budgets, scaled, policies := map[string]bool{}, "", map[string]object{}
	pods := map[string]object{}
	for _, o := range manifests(t) {
		require.NotEqual(t, "Secret", o["kind"])
		name, _ := at(o, "metadata", "name").(string)
		role := strings.TrimPrefix(name, "shop-callmask-")
		switch o["kind"] {
		case "Deployment":
			pods[role] = at(o, "spec", "template").(object)
			require.Equal(t, at(o, "spec", "selector", "matchLabels", "app.kubernetes.io/component"), role)
			for label, value := range at(o, "spec", "selector", "matchLabels").(object) {
				require.Equal(t, value, at(pods[role], "metadata", "labels", label), "%s: the selector finds its pods", role)
			}
			require.Equal(t, role != "router", at(o, "spec", "replicas") != nil, "%s: what is scaled by itself has no fixed number", role)
		case "PodDisruptionBudget":
			budgets[role] = true
		case "HorizontalPodAutoscaler":
			scaled, _ = at(o, "spec", "scaleTargetRef", "name").(string)
		case "NetworkPolicy":
			policies[role] = o
		case "ConfigMap":
			requireFile(t, at(o, "data", "callmask.yaml").(string))
		}
	}
	require.Len(t, pods, 3)
	require.Equal(t, "shop-callmask-router", scaled)
	require.Equal(t, map[string]bool{"router": true, "allocator": true, "replenisher": true}, budgets)
	require.Equal(t, "router", at(policies["carriers"], "spec", "podSelector", "matchLabels", "app.kubernetes.io/component"))
	require.Equal(t, []any{object{"podSelector": object{}}}, at(policies["private"], "spec", "ingress", 0, "from"), "the private listener is for this namespace")
	for role, pod := range pods {
		c := at(pod, "spec", "containers", 0)
		require.Equal(t, []any{role}, at(c, "args"))
		require.Equal(t, "/readyz", at(c, "readinessProbe", "httpGet", "path"))
		require.Equal(t, "/livez", at(c, "livenessProbe", "httpGet", "path"))
		require.Equal(t, true, at(pod, "spec", "securityContext", "runAsNonRoot"))
		require.Equal(t, true, at(c, "securityContext", "readOnlyRootFilesystem"))
		require.Equal(t, []any{"ALL"}, at(c, "securityContext", "capabilities", "drop"))
		require.NotNil(t, at(c, "resources", "limits", "memory"))
		for _, e := range at(c, "env").([]any) {
			name, _ := at(e, "name").(string)
			requireSettings(t, "roles.yaml", name)
			if name == "CALLMASK_API_TOKEN" || name == "CALLMASK_REDIS_URL" {
				require.Equal(t, "callmask-secrets", at(e, "valueFrom", "secretKeyRef", "name"), name)
				require.Nil(t, at(e, "value"), name)
			}
		}
	}
}

func TestTheChartsOptionsTakeEffect(t *testing.T) {
	t.Parallel()
	seen := map[any]object{}
	for _, o := range manifests(t, "--set", "router.autoscaling.enabled=false", "--set", "router.ingress.enabled=true", "--set", "router.ingress.host=calls.example.com",
		"--set", "router.ingress.tlsSecret=tls", "--set", "serviceMonitor.enabled=true", "--set", "networkPolicy.enabled=false", "--set", "secretKeys.natsCreds=creds",
		"--set", "env.CALLMASK_LOG_LEVEL=debug") {
		seen[o["kind"]] = o
		if o["kind"] == "Deployment" {
			require.NotNil(t, at(o, "spec", "replicas"))
			require.Contains(t, at(o, "spec", "template", "spec", "containers", 0, "env"), object{"name": "CALLMASK_LOG_LEVEL", "value": "debug"})
			require.Len(t, at(o, "spec", "template", "spec", "volumes"), 3)
		}
	}
	require.Nil(t, seen["HorizontalPodAutoscaler"])
	require.Nil(t, seen["NetworkPolicy"])
	require.Equal(t, "/v1/carriers/", at(seen["Ingress"], "spec", "rules", 0, "http", "paths", 0, "path"), "nothing else belongs on the internet")
	require.Equal(t, "callmask-secrets", at(seen["ServiceMonitor"], "spec", "endpoints", 0, "authorization", "credentials", "name"))
}

func TestTheImageRunsTheBinaryWithoutRights(t *testing.T) {
	t.Parallel()
	dockerfile := read(t, "Dockerfile")
	copied := regexp.MustCompile(`(?m)^COPY --from=build /callmask (\S+)$`).FindStringSubmatch(dockerfile)
	require.NotNil(t, copied)
	require.Contains(t, dockerfile, "go build -buildvcs=true -trimpath -ldflags=-s -o /callmask ./cmd/callmask")
	require.Contains(t, dockerfile, `ENTRYPOINT ["`+copied[1]+`"]`)
	require.Regexp(t, `(?m)^USER 65532:65532$`, dockerfile)
	for _, image := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(dockerfile, -1) {
		require.Regexp(t, `:[\w.-]+$`, image[1], "an image names its version")
		require.NotContains(t, image[1], "latest")
	}
	for _, source := range regexp.MustCompile(`(?m)^COPY ([^-\s]\S*)(?: (\S+))? \S+$`).FindAllStringSubmatch(dockerfile, -1) {
		for _, path := range source[1:] {
			if path != "" {
				_, err := os.Stat(root + path)
				require.NoError(t, err)
			}
		}
	}
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))[1]
	require.Contains(t, dockerfile, "FROM golang:"+goVersion+"-", "the version of go.mod")
	requireSettings(t, "Dockerfile", dockerfile)
}

func TestTheComposeFileFitsItsFiles(t *testing.T) {
	t.Parallel()
	const dir = "deploy/compose/"
	text := read(t, dir+"compose.yaml")
	requireSettings(t, "compose.yaml", strings.ReplaceAll(text, "${CALLMASK_API_TOKEN}", ""))
	var doc struct {
		Services map[string]struct {
			Image   string
			Volumes []string
			Command any
		}
		Volumes map[string]any
	}
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(text), &doc, yaml.AllowDuplicateMapKey())) // over what is merged
	for _, name := range []string{"router", "allocator", "replenisher", "redis", "nats", "prometheus", "grafana"} {
		require.Contains(t, doc.Services, name)
	}
	for name, s := range doc.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				require.Contains(t, doc.Volumes, source, name)
				continue
			}
			_, err := os.Stat(root + dir + source)
			require.NoError(t, err, name)
		}
		if s.Image != "callmask" {
			require.Regexp(t, `:v?\d+\.\d+`, s.Image, "%s names its version", name)
		}
	}
	example := read(t, dir+"env.example")
	for _, variable := range regexp.MustCompile(`\$\{([A-Z_]+)`).FindAllStringSubmatch(text+read(t, dir+"callmask.yaml"), -1) {
		require.Contains(t, example, "\n"+variable[1]+"=", "env.example names what .env needs")
	}
	requireFile(t, read(t, dir+"callmask.yaml"))

	work := t.TempDir()
	writeFile(t, filepath.Join(work, "prometheus.yml"), strings.ReplaceAll(read(t, dir+"prometheus.yml"), "/etc/prometheus/api-token", "api-token"))
	writeFile(t, filepath.Join(work, "api-token"), "token")
	writeFile(t, filepath.Join(work, "callmask.rules.yml"), read(t, "deploy/prometheus/callmask.rules.yml"))
	command(t, "promtool", "check", "config", filepath.Join(work, "prometheus.yml"))
}

func TestTheComposedNATSServerKeepsItsStoreEncrypted(t *testing.T) {
	t.Setenv("NATS_TOKEN", "k0123456789abcdef")
	t.Setenv("NATS_STORE_KEY", "k89abcdef01234567")
	options, err := server.ProcessConfigFile(root + "deploy/compose/nats.conf")
	require.NoError(t, err)
	require.Equal(t, "k0123456789abcdef", options.Authorization)
	require.Equal(t, "k89abcdef01234567", options.JetStreamKey)
	require.Equal(t, server.ChaCha, options.JetStreamCipher)
	require.True(t, options.SyncAlways)
}

func TestTheSystemdUnitsAreValidAndHardened(t *testing.T) {
	t.Parallel()
	binary, err := executable()
	require.NoError(t, err)
	for _, unit := range []string{"callmask.service", "callmask@.service"} {
		text := read(t, "deploy/systemd/"+unit)
		requireSettings(t, unit, text)
		require.Contains(t, text, "ExecStart=/usr/local/bin/callmask ")
		path := filepath.Join(t.TempDir(), unit)
		writeFile(t, path, strings.ReplaceAll(text, "/usr/local/bin/callmask", binary)) // it must exist
		instance := strings.Replace(path, "@.", "@router.", 1)
		if instance != path {
			require.NoError(t, os.Rename(path, instance))
		}
		require.Empty(t, command(t, "systemd-analyze", "verify", "--man=no", instance))
		command(t, "systemd-analyze", "security", "--offline=true", "--threshold=25", instance) // of 100, the lower the safer
	}
}
