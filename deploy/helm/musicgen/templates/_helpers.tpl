{{- define "musicgen.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Given: root, component; perhaps model, the name of a set of workers. */}}
{{- define "musicgen.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .model }}
musicgen/model: {{ . }}
{{- end }}
{{- end -}}

{{- define "musicgen.labels" -}}
{{ include "musicgen.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Labels of what belongs to the release as a whole. */}}
{{- define "musicgen.releaseLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Given: root, image (repository, tag). */}}
{{- define "musicgen.image" -}}
{{- $registry := trimSuffix "/" .root.Values.images.registry -}}
{{- $repository := ternary .image.repository (printf "%s/%s" $registry .image.repository) (empty $registry) -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{- define "musicgen.secretName" -}}
{{- default (include "musicgen.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "musicgen.serviceAccountName" -}}
{{- default (ternary (include "musicgen.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "musicgen.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{- .Values.publicUrl -}}
{{- else if .Values.ingress.enabled -}}
{{- printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tlsSecret))) .Values.ingress.host -}}
{{- end -}}
{{- end -}}

{{- define "musicgen.s3Endpoint" -}}
{{- if .Values.versitygw.enabled -}}
{{- printf "http://%s-s3:7070" (include "musicgen.fullname" .) -}}
{{- else -}}
{{- .Values.s3.endpoint -}}
{{- end -}}
{{- end -}}

{{/* Where clients reach the storage: kubectl port-forward, where nothing else is said of versitygw. */}}
{{- define "musicgen.s3PublicEndpoint" -}}
{{- if .Values.s3.publicEndpoint -}}
{{- .Values.s3.publicEndpoint -}}
{{- else if and .Values.versitygw.enabled .Values.ingress.enabled .Values.ingress.s3Host -}}
{{- printf "%s://%s" (ternary "https" "http" (not (empty .Values.ingress.tlsSecret))) .Values.ingress.s3Host -}}
{{- else if .Values.versitygw.enabled -}}
http://localhost:7070
{{- end -}}
{{- end -}}

{{/* The text of a setting; a number keeps its digits. */}}
{{- define "musicgen.text" -}}
{{- if kindIs "string" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{/* Given: root, name (a variable and the key of the secret that has its value); perhaps optional. */}}
{{- define "musicgen.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ include "musicgen.secretName" .root }}
      key: {{ .name }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}

{{/* The environment that all processes of this project have. */}}
{{- define "musicgen.environment" -}}
{{- $root := . -}}
{{ include "musicgen.fromSecret" (dict "root" . "name" "MUSICGEN_SECRET") }}
{{ include "musicgen.fromSecret" (dict "root" . "name" "MUSICGEN_WEBHOOK_SECRETS" "optional" true) }}
{{- if .Values.valkey.enabled }}
{{ include "musicgen.fromSecret" (dict "root" . "name" "VALKEY_PASSWORD") }}
- name: MUSICGEN_REDIS_URL
  value: redis://:$(VALKEY_PASSWORD)@{{ include "musicgen.fullname" . }}-valkey:6379/0
{{- else }}
{{ include "musicgen.fromSecret" (dict "root" . "name" "MUSICGEN_REDIS_URL") }}
{{- end }}
- name: MUSICGEN_STORAGE
  value: s3
{{- with include "musicgen.s3Endpoint" . }}
- name: MUSICGEN_S3_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with include "musicgen.s3PublicEndpoint" . }}
- name: MUSICGEN_S3_PUBLIC_ENDPOINT
  value: {{ . | quote }}
{{- end }}
- name: MUSICGEN_S3_BUCKET
  value: {{ .Values.s3.bucket | quote }}
- name: MUSICGEN_S3_REGION
  value: {{ .Values.s3.region | quote }}
- name: MUSICGEN_S3_CREATE_BUCKET
  value: {{ or .Values.versitygw.enabled .Values.s3.createBucket | quote }}
{{- if .Values.s3.keys }}
{{ include "musicgen.fromSecret" (dict "root" . "name" "MUSICGEN_S3_ACCESS_KEY") }}
{{ include "musicgen.fromSecret" (dict "root" . "name" "MUSICGEN_S3_SECRET_KEY") }}
{{- end }}
- name: MUSICGEN_DATA_DIR
  value: /data
- name: MUSICGEN_MODELS
  value: /etc/musicgen/models/models.toml
- name: MUSICGEN_METRICS_PORT
  value: {{ .Values.metrics.port | quote }}
- name: MUSICGEN_METRICS_HOST
  value: "0.0.0.0"
{{- with include "musicgen.publicUrl" . }}
- name: MUSICGEN_PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: MUSICGEN_{{ upper $name }}
  value: {{ include "musicgen.text" $value | quote }}
{{- end }}
{{- end -}}

{{/* What all our pods say of themselves. Given: root, user, and perhaps group, of the image. */}}
{{- define "musicgen.podSecurity" -}}
automountServiceAccountToken: false
# A Service's name must not become a setting: Kubernetes would inject MUSICGEN_PORT.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ default .user .group }}
  fsGroup: {{ default .user .group }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "musicgen.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where a pod may run. Given: values with nodeSelector, tolerations, affinity and so on. */}}
{{- define "musicgen.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" }}
{{- with get $ $key }}
{{ $key }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The probes. Given: port, by name; seconds, how long a start may take. */}}
{{- define "musicgen.probes" -}}
startupProbe:
  httpGet: {path: /health/startup, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div .seconds 5 }}
livenessProbe:
  httpGet: {path: /health/live, port: {{ .port }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /health/ready, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* Pods start again when one of these changes: they read it only once. */}}
{{- define "musicgen.checksums" -}}
checksum/models: {{ include "musicgen.registry" . | sha256sum }}
{{- if not .Values.secrets.existingSecret }}
checksum/secrets: {{ toJson .Values.secrets.values | sha256sum }}
{{- end }}
{{- end -}}

{{/* "true" where trainings are scaled by what the API's metrics say, else nothing. */}}
{{- define "musicgen.scalesTrainings" -}}
{{- if .Values.keda.enabled -}}
{{- range .Values.models }}{{ if dig "trainings" "enabled" false . }}true{{ end }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* models.toml. A string, number or boolean of JSON is one of TOML too. */}}
{{- define "musicgen.registry" -}}
{{- $default := first .Values.models -}}
{{- range .Values.models }}{{ if .default }}{{ $default = . }}{{ end }}{{ end -}}
default = {{ toJson $default.model }}
{{- range .Values.models }}

[[models]]
name = {{ toJson .model }}
source = {{ toJson .source }}
{{- with .version }}
version = {{ toJson . }}
{{- end }}
{{- with .checksum }}
checksum = {{ toJson . }}
{{- end }}
{{- with .defaults }}
defaults = {{ include "musicgen.inlineTable" . }}
{{- end }}
{{- with .abilities }}
abilities = {{ include "musicgen.inlineTable" . }}
{{- end }}
{{- end }}
{{ end -}}

{{- define "musicgen.inlineTable" -}}
{{- $pairs := list -}}
{{- range $key, $value := . }}{{ $pairs = append $pairs (printf "%s = %s" $key (toJson $value)) }}{{ end -}}
{ {{ join ", " $pairs }} }
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "musicgen.check" -}}
{{- $given := .Values.secrets.values -}}
{{- if not .Values.secrets.existingSecret -}}
{{- $needed := list "MUSICGEN_SECRET" -}}
{{- $needed = append $needed (ternary "VALKEY_PASSWORD" "MUSICGEN_REDIS_URL" .Values.valkey.enabled) -}}
{{- if .Values.s3.keys }}{{ $needed = concat $needed (list "MUSICGEN_S3_ACCESS_KEY" "MUSICGEN_S3_SECRET_KEY") }}{{ end -}}
{{- if not .Values.tokensFile.existingSecret }}{{ $needed = append $needed "MUSICGEN_API_TOKENS" }}{{ end -}}
{{- range $needed -}}
{{- if not (get $given .) -}}
{{- fail (printf "There is no %s: name a Secret that has it as secrets.existingSecret, or set secrets.values.%s." . .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.versitygw.enabled (not .Values.s3.keys) -}}
{{- fail "versitygw needs keys: set s3.keys=true, or versitygw.enabled=false." -}}
{{- end -}}
{{- if and .Values.versitygw.enabled .Values.s3.endpoint -}}
{{- fail "s3.endpoint names a storage of your own: set versitygw.enabled=false, or leave s3.endpoint out." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "The ingress needs ingress.host, the name under which clients reach the API." -}}
{{- end -}}
{{- $names := list -}}{{- $models := list -}}{{- $defaults := 0 -}}
{{- range .Values.models -}}
{{- $names = append $names .name }}{{ $models = append $models .model -}}
{{- if .default }}{{ $defaults = add1 $defaults }}{{ end -}}
{{- $scale := default dict .scale -}}
{{- if gt (int (dig "min" 0 $scale)) (int (dig "max" 1 $scale)) -}}
{{- fail (printf "models: %s has scale.min above scale.max." .name) -}}
{{- end -}}
{{- if dig "trainings" "enabled" false . -}}
{{- $scale := default dict .trainings.scale -}}
{{- if gt (int (dig "min" 0 $scale)) (int (dig "max" 1 $scale)) -}}
{{- fail (printf "models: %s has trainings.scale.min above trainings.scale.max." .name) -}}
{{- end -}}
{{- if eq (dig "cache" "accessMode" "" .) "ReadWriteOncePod" -}}
{{- fail (printf "models: %s has a disk for one pod alone, and trainings need it too: set cache.accessMode to ReadWriteMany or ReadWriteOnce." .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ne (len $names) (len (uniq $names)) }}{{ fail "models: two sets of workers have one name." }}{{ end -}}
{{- if ne (len $models) (len (uniq $models)) }}{{ fail "models: one model is there twice; give its set more replicas." }}{{ end -}}
{{- if gt $defaults 1 }}{{ fail "models: more than one is the default." }}{{ end -}}
{{- end -}}
