{{/*
A Deployment of workers of one model, and what scales it. Given: root; component, worker or trainer; set, the values of
an entry of models; claim, the volume claim at /data, if there is one.
*/}}
{{- define "musicgen.workers" -}}
{{- $root := .root -}}
{{- $trains := eq .component "trainer" -}}
{{- $labels := dict "root" $root "component" .component "model" .set.name -}}
{{- $fullname := include "musicgen.fullname" $root -}}
{{- $name := printf "%s-%s-%s" $fullname .component .set.name -}}
{{- $claim := .claim -}}
{{- $signs := and (not $trains) $root.Values.contentCredentials.existingSecret -}}
{{- with .set -}}
{{- $model := .model -}}
{{- $gpus := int .gpus -}}
{{- $scale := default dict .scale -}}
{{- $target := ternary 1 (dig "target" 8 $scale) $trains }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "musicgen.labels" $labels | nindent 4 }}
spec:
  {{- if not $root.Values.keda.enabled }}
  replicas: {{ dig "replicas" 1 . }}
  {{- end }}
  strategy:
    # The next worker may need the GPU and the disk of the one before; meanwhile predictions wait.
    rollingUpdate: {maxUnavailable: 1, maxSurge: 0}
  # The first start fetches the model.
  progressDeadlineSeconds: {{ add (default 3600 .startSeconds) 300 }}
  selector:
    matchLabels:
      {{- include "musicgen.selector" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "musicgen.labels" $labels | nindent 8 }}
        musicgen/metrics: "true"
      annotations:
        {{- include "musicgen.checksums" $root | nindent 8 }}
        {{- with .podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "musicgen.serviceAccountName" $root }}
      {{- include "musicgen.podSecurity" (dict "root" $root "user" 10001) | nindent 6 }}
      {{- include "musicgen.placement" . | nindent 6 }}
      # Process 1 of a container hears SIGTERM only once it listens, here with the model loaded; like this, it is another.
      shareProcessNamespace: true
      {{- if $trains }}
      # A training is given back after storing its checkpoint, from which another worker goes on.
      terminationGracePeriodSeconds: {{ default 60 .terminationGracePeriodSeconds }}
      {{- else }}
      # What is being generated is finished first. What is not finished by then, another worker does again.
      terminationGracePeriodSeconds: {{ default (ternary 120 600 (gt $gpus 0)) .terminationGracePeriodSeconds }}
      {{- end }}
      containers:
        - name: {{ $labels.component }}
          image: {{ include "musicgen.image" (dict "root" $root "image" (default (ternary $root.Values.images.cuda $root.Values.images.cpu (gt $gpus 0)) .image)) }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          args: [worker, {{ if $trains }}--trainings, {{ end }}--model, {{ $model | quote }}]
          ports:
            - {name: metrics, containerPort: {{ $root.Values.metrics.port }}}
          env:
            {{- include "musicgen.environment" $root | nindent 12 }}
            # Not auto: without its GPU the worker should fail instead of being slow.
            - name: MUSICGEN_DEVICE
              value: {{ ternary "cuda" "cpu" (gt $gpus 0) }}
            {{- if $signs }}
            - name: MUSICGEN_C2PA_CERTIFICATE
              value: /etc/musicgen/credentials/{{ $root.Values.contentCredentials.certificate }}
            - name: MUSICGEN_C2PA_KEY
              value: /etc/musicgen/credentials/{{ $root.Values.contentCredentials.key }}
            {{- end }}
            {{- with .dtype }}
            - name: MUSICGEN_DTYPE
              value: {{ . }}
            {{- end }}
            {{- with .maxRequests }}
            - name: MUSICGEN_MAX_REQUESTS
              value: {{ . | quote }}
            {{- end }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- include "musicgen.probes" (dict "port" "metrics" "seconds" (default 3600 .startSeconds)) | nindent 10 }}
          resources:
            {{- $resources := deepCopy (default dict .resources) }}
            {{- if gt $gpus 0 }}
            {{- $gpu := dict "nvidia.com/gpu" $gpus }}
            {{- $resources = mustMergeOverwrite $resources (dict "requests" (deepCopy $gpu) "limits" (deepCopy $gpu)) }}
            {{- end }}
            {{- toYaml $resources | nindent 12 }}
          {{- include "musicgen.containerSecurity" $root | nindent 10 }}
          volumeMounts:
            - {name: temporary, mountPath: /tmp}
            # Fetched models lie here.
            - {name: data, mountPath: /data}
            - {name: models, mountPath: /etc/musicgen/models, readOnly: true}
            {{- if $signs }}
            - {name: credentials, mountPath: /etc/musicgen/credentials, readOnly: true}
            {{- end }}
      volumes:
        - name: temporary
          emptyDir: {sizeLimit: {{ default (ternary "20Gi" "2Gi" $trains) .temporarySize }}}
        - name: data
          {{- if $claim }}
          persistentVolumeClaim: {claimName: {{ $claim }}}
          {{- else }}
          emptyDir: {sizeLimit: {{ dig "cache" "emptyDirSize" "30Gi" . }}}
          {{- end }}
        - name: models
          configMap: {name: {{ $fullname }}-models}
        {{- if $signs }}
        - name: credentials
          secret: {secretName: {{ $root.Values.contentCredentials.existingSecret }}}
        {{- end }}
{{- if $root.Values.keda.enabled }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  labels:
    {{- include "musicgen.labels" $labels | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ $name }}}
  minReplicaCount: {{ dig "min" 0 $scale }}
  maxReplicaCount: {{ dig "max" 1 $scale }}
  pollingInterval: {{ $root.Values.keda.pollingInterval }}
  cooldownPeriod: {{ $root.Values.keda.cooldownPeriod }}
  initialCooldownPeriod: {{ $root.Values.keda.initialCooldownPeriod }}
  advanced:
    # What a worker has taken no longer waits, but keeps it busy: both count.
    scalingModifiers:
      formula: waiting + running
      target: {{ $target | quote }}
      activationTarget: "0"
      metricType: AverageValue
    horizontalPodAutoscalerConfig:
      behavior:
        # A worker that ends gives its model's memory back and loads it again next time.
        scaleDown:
          stabilizationWindowSeconds: 300
          policies: [{type: Pods, value: 1, periodSeconds: 60}]
  triggers:
    {{- range $trigger, $field := dict "waiting" "queued" "running" "running" }}
    - type: metrics-api
      name: {{ $trigger }}
      metricType: AverageValue
      metadata:
        {{- if $trains }}
        url: http://{{ $fullname }}-api-metrics.{{ $root.Release.Namespace }}:{{ $root.Values.metrics.port }}/metrics
        format: prometheus
        valueLocation: 'musicgen_trainings_{{ $trigger }}{model="{{ $model }}"}'
        {{- else }}
        url: http://{{ $fullname }}-api.{{ $root.Release.Namespace }}:{{ $root.Values.api.service.port }}/health-check
        format: json
        valueLocation: 'models.#(name=="{{ $model }}").{{ $field }}'
        {{- end }}
        targetValue: {{ $target | quote }}
    {{- end }}
{{- end }}
{{- end }}
{{- end -}}
