{{- define "callmask.labels" -}}
app.kubernetes.io/name: callmask
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "callmask.selector" -}}
app.kubernetes.io/name: callmask
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "callmask.name" -}}
{{- if contains "callmask" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-callmask{{ end }}
{{- end }}
