{{/* The configuration, told what the way to the driver implies. */}}
{{- define "gpuwarden.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if eq .Values.gpu.mode "none" -}}
{{- $config = mergeOverwrite $config (dict "gpu" (dict "enabled" false)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "gpuwarden.env" -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: NODE_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- if eq .Values.gpu.mode "runtimeClass" }}
# All GPUs of the node to look at, none to compute on: the pod requests no nvidia.com/gpu.
- name: NVIDIA_VISIBLE_DEVICES
  value: all
- name: NVIDIA_DRIVER_CAPABILITIES
  value: utility
{{- else }}
- name: NVIDIA_VISIBLE_DEVICES
  value: void
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gpuwarden.volumeMounts" -}}
- {name: config, mountPath: /etc/gpuwarden/config, readOnly: true}
- {name: rules, mountPath: /etc/gpuwarden/rules.d, readOnly: true}
- {name: run, mountPath: /run/gpuwarden}
- {name: spool, mountPath: /var/lib/gpuwarden}
# The BPF filesystem: pinned objects, and who else pinned some.
- {name: bpf, mountPath: /sys/fs/bpf}
# Tracepoint formats and ids; not part of a container's own /sys.
- {name: tracing, mountPath: /sys/kernel/tracing, readOnly: true}
# Type information of the running kernel.
- {name: btf, mountPath: /sys/kernel/btf, readOnly: true}
# The host's root of all control groups: attaching needs no more than reading.
- {name: cgroup, mountPath: /sys/fs/cgroup, readOnly: true}
{{- if .Values.hostPaths.securityfs }}
- {name: securityfs, mountPath: /sys/kernel/security, readOnly: true}
{{- end }}
{{- if .Values.hostPaths.podResources }}
- {name: pod-resources, mountPath: /var/lib/kubelet/pod-resources, readOnly: true}
{{- end }}
{{- if .Values.hostPaths.criSocket }}
- {name: cri, mountPath: {{ .Values.hostPaths.criSocket }}, readOnly: true}
{{- end }}
{{- if eq .Values.gpu.mode "hostLibrary" }}
- {name: driver, mountPath: /usr/local/nvidia/lib64, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "gpuwarden.volumes" -}}
- name: config
{{- if .Values.configSecret }}
  secret: {secretName: {{ .Values.configSecret }}, defaultMode: 0400}
{{- else }}
  configMap: {name: {{ include "gpuwarden.fullname" . }}}
{{- end }}
- name: rules
  configMap: {name: {{ include "gpuwarden.rulesConfigMap" . }}}
- name: run
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
- name: spool
  hostPath: {path: {{ .Values.hostPaths.spool }}, type: DirectoryOrCreate}
- name: bpf
  hostPath: {path: /sys/fs/bpf, type: Directory}
- name: tracing
  hostPath: {path: /sys/kernel/tracing, type: Directory}
- name: btf
  hostPath: {path: /sys/kernel/btf, type: Directory}
- name: cgroup
  hostPath: {path: /sys/fs/cgroup, type: Directory}
{{- with .Values.hostPaths.securityfs }}
- name: securityfs
  hostPath: {path: {{ . }}, type: Directory}
{{- end }}
{{- with .Values.hostPaths.podResources }}
- name: pod-resources
  hostPath: {path: {{ . }}, type: Directory}
{{- end }}
{{- with .Values.hostPaths.criSocket }}
- name: cri
  hostPath: {path: {{ . }}, type: Socket}
{{- end }}
{{- if eq .Values.gpu.mode "hostLibrary" }}
- name: driver
  hostPath: {path: {{ .Values.gpu.libraryPath }}, type: Directory}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
