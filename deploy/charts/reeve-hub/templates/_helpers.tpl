{{- define "reeve-hub.name" -}}
{{- if contains "reeve-hub" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-reeve-hub" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "reeve-hub.selector" -}}
app.kubernetes.io/name: reeve-hub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "reeve-hub.labels" -}}
{{ include "reeve-hub.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The hub's configuration: what the chart sets, and .Values.config over it. */}}
{{- define "reeve-hub.config" -}}
{{- $name := include "reeve-hub.name" . }}
{{- $names := concat .Values.names (list (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s" $name .Release.Namespace) $name) }}
{{- $config := dict
  "dataDir" "/var/lib/reeve-hub"
  "caDir" "/etc/reeve/ca"
  "names" $names
  "publicURL" (printf "https://%s:%v" (first $names) .Values.service.apiPort)
  "servicesURL" (printf "https://%s:%v" (first $names) .Values.service.servicesPort)
  "listen" (dict "api" ":8443" "services" ":9443" "metrics" ":9090")
  "log" (dict "format" "json") }}
{{- $database := dict }}
{{- with .Values.database.url }}{{ $_ := set $database "url" . }}{{ end }}
{{- if .Values.database.passwordSecret.name }}
{{- $_ := set $database "passwordFile" "/etc/reeve/database/password" }}
{{- end }}
{{- if $database }}{{ $_ := set $config "database" $database }}{{ end }}
{{- $config = mustMergeOverwrite $config (deepCopy .Values.config) }}
{{- $url := dig "database" "url" "" $config }}
{{- if and .Values.database.passwordSecret.name (not $url) }}{{ fail "database.passwordSecret: it needs database.url" }}{{ end }}
{{- if regexMatch "^[^:]+://[^/@]*:[^/]*@|[?&]password=" $url }}{{ fail "database.url: a password must not be in it, since a ConfigMap shows it; name a Secret in database.passwordSecret" }}{{ end }}
{{- if gt (int .Values.replicas) 1 }}
{{- if not (dig "database" "url" "" $config) }}{{ fail "replicas: more than one needs database.url, a PostgreSQL that they share" }}{{ end }}
{{- if not (or (dig "documents" "url" "" $config) (dig "documents" "dir" "" $config)) }}{{ fail "replicas: more than one needs config.documents.url, object storage that they share" }}{{ end }}
{{- end }}
{{- toYaml $config }}
{{- end }}
