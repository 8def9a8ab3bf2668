{{- define "reeve-agent.name" -}}
{{- if contains "reeve-agent" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-reeve-agent" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "reeve-agent.selector" -}}
app.kubernetes.io/name: reeve-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "reeve-agent.labels" -}}
{{ include "reeve-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The ports of incomingServices that others than the agent's own pod reach, as a list. */}}
{{- define "reeve-agent.incoming" -}}
{{- $ports := list }}
{{- range (include "reeve-agent.config" . | fromYaml).incomingServices }}
{{- if not (has (default "127.0.0.1" .address) (list "127.0.0.1" "::1" "localhost")) }}{{ $ports = append $ports (int .port) }}{{ end }}
{{- end }}
{{- toYaml (uniq $ports) }}
{{- end }}

{{- /* The agent's configuration: what the chart sets, and .Values.config over it. */}}
{{- define "reeve-agent.config" -}}
{{- $config := dict "dataDir" "/var/lib/reeve-agent" "metrics" ":9090" "log" (dict "format" "json") }}
{{- $hub := dict "url" .Values.hub.url }}
{{- if or .Values.hub.joinToken .Values.hub.joinTokenSecret.name }}
{{- $_ := set $hub "joinTokenFile" "/etc/reeve/join/token" }}
{{- end }}
{{- $_ := set $config "hub" $hub }}
{{- if .Values.kubectl.clusterRoles }}
{{- $_ := set $config "services" (list (dict "type" "kubernetes" "name" "cluster")) }}
{{- end }}
{{- if .Values.scan.scanner.enabled }}
{{- $image := printf "%s:%s" .Values.scan.scanner.repository (.Values.scan.scanner.tag | default .Chart.AppVersion) }}
{{- $_ := set $config "scan" (dict "ephemeral" (dict "image" $image)) }}
{{- end }}
{{- $insights := dict }}
{{- if .Values.insights.listen }}{{ $_ := set $insights "listen" ":8888" }}{{ end }}
{{- if .Values.insights.tokenSecret.name }}{{ $_ := set $insights "tokenSecretFile" "/etc/reeve/insights/secret" }}{{ end }}
{{- if $insights }}{{ $_ := set $config "insights" $insights }}{{ end }}
{{- $config = mustMergeOverwrite $config (deepCopy .Values.config) }}
{{- if not (or $config.hub.url (dig "hub" "urls" "" $config) (dig "insights" "broker" "url" "" $config)) }}{{ fail "hub.url: it must be https://HOST:8443 of the hub" }}{{ end }}
{{- if and .Values.insights.listen (not (or (dig "insights" "tokenSecretFile" "" $config) (dig "insights" "tokenSecretEnv" "" $config))) }}{{ fail "insights.listen: it needs insights.tokenSecret, the Secret that tokens are signed with" }}{{ end }}
{{- toYaml $config }}
{{- end }}
