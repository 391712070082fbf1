# shellcheck shell=bash
# Sourced: the TPU compiler's flags for a generation.
#
#   source launch/libtpu_flags.sh; libtpu_flags v5p [SLICES]
#
# libtpu 0.0.42 compiled a small sharded program with each set for its generation
# (it refuses to start on a flag that it does not know). What they gain was not
# timed on a device.

libtpu_flags() {
  local generation="$1" slices="${2:-1}"
  # Overlap collectives with computing; let kernels have 64 MiB of VMEM.
  local flags="--xla_enable_async_all_gather=true
    --xla_tpu_overlap_compute_collective_tc=true
    --xla_tpu_scoped_vmem_limit_kib=65536"
  case "$generation" in
    v5e | v5litepod)  # fused with matrix products; others may refuse it
      flags="$flags
        --xla_tpu_enable_async_collective_fusion=true
        --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
        --xla_tpu_enable_async_collective_fusion_multiple_steps=true" ;;
    v4)  # has less VMEM
      flags="${flags/--xla_tpu_scoped_vmem_limit_kib=65536/}" ;;
    v5p | v6e) ;;
    *) echo "error: unknown TPU generation '$generation'; have: v4 v5e v5p" \
      "v6e." >&2
      return 2 ;;
  esac
  if [ "$slices" -gt 1 ]; then  # gradients are summed over the slow network
    flags="$flags
      --xla_tpu_enable_data_parallel_all_reduce_opt=true
      --xla_tpu_data_parallel_opt_different_sized_ops=true"
  fi
  LIBTPU_INIT_ARGS="$(tr -s ' \n' ' ' <<< "$flags")"
  export LIBTPU_INIT_ARGS
}
