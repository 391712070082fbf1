"""Programs as the TPU's compiler prints them are read and priced."""
# ruff: noqa: E501  the compiler's lines are long

import types

import pytest

from dreamgen_jax import errors
from dreamgen_jax.benchmarks import kernel_schedule
from dreamgen_jax.layers import flash
from dreamgen_jax.plan import chips, collectives, hlo, kernels, schedule

# Loops without trip counts, one that counts by twos inside a fusion; metadata
# over several lines, one of which is a brace; buffers in VMEM are S(1).
TEXT = """\
HloModule step, is_scheduled=true

%add (a: s32[], b: s32[]) -> s32[] {
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %sum = s32[] add(%a, %b)
}

%product (p: bf16[512,256], q: bf16[256,128]) -> bf16[512,128] {
  %p = bf16[512,256]{1,0:T(8,128)(2,1)} parameter(0)
  %q = bf16[256,128]{1,0} parameter(1)
  ROOT %c = bf16[512,128]{1,0} convolution(%p, %q), dim_labels=bf_io->bf
}

%body (s: (s32[], bf16[512,256])) -> (s32[], bf16[512,256]) {
  %s = (s32[], bf16[512,256]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = bf16[512,256]{1,0} get-tuple-element(%s), index=1
  %two = s32[] constant(2)
  %w = bf16[256,128]{1,0:S(1)} constant({...})
  %start = (bf16[512,256]{1,0}, bf16[512,256]{1,0}) collective-permute-start(%x), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %y = bf16[512,128]{1,0} fusion(%x, %w), kind=kOutput, calls=%product, backend_config={"window_config":{"estimated_cycles":"1750"}}, metadata={op_name="jit(f)/mlp"}
  %end = bf16[512,256]{1,0} collective-permute-done(%start)
  %next = s32[] fusion(%i, %two), kind=kLoop, calls=%add
  ROOT %t = (s32[], bf16[512,256]{1,0}) tuple(%next, %end)
}

%test (s: (s32[], bf16[512,256])) -> pred[] {
  %s = (s32[], bf16[512,256]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %n = s32[] constant(10)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: bf16[512,256]) -> bf16[2048,256] {
  %x = bf16[512,256]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %init = (s32[], bf16[512,256]{1,0}) tuple(%zero, %x)
  %loop = (s32[], bf16[512,256]{1,0}) while(%init), condition=%test, body=%body
  %out = bf16[512,256]{1,0} get-tuple-element(%loop), index=1
  %k = f32[512,256]{1,0} custom-call(%out), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata="{
}"}, metadata={op_name="rope_turn"}
  %slow = f32[512,256]{1,0} negate(%k)
  ROOT %all = bf16[2048,256]{1,0} all-gather(%out), replica_groups=[1,4]<=[4], dimensions={0}
}
"""


def _topology(generation="v5p", shape=(4, 1, 1), slices=1):
  devices = [
      types.SimpleNamespace(coords=(x, y, z), slice_index=number)
      for number in range(slices) for z in range(shape[2])
      for y in range(shape[1]) for x in range(shape[0])]
  return chips.Topology("test", generation, shape, slices, devices)


def test_loops_products_and_exchanges_are_priced():
  program = hlo.parse(TEXT)
  assert program.entry == "main"
  loop = program.computations["main"]["loop"]
  assert program.trips(loop, program.computations["main"]) == 5
  on = _topology()
  cost = schedule.Walk(program, on).total()
  assert cost.flops == 5 * 2 * 512 * 256 * 128
  assert cost.matmul_seconds == pytest.approx(5 * 1750 / on.chip.clock)
  found = collectives.total(cost.exchanged)
  size = 512 * 256 * 2
  assert found["collective-permute/2"]["payload_bytes"] == 5 * size
  # Three hops back on a line of four: the busiest link carries one each way.
  exchange = size / on.chip.link + 3e-6
  assert found["collective-permute/2"]["seconds"] == pytest.approx(
      5 * exchange)
  gather = 3 * size / on.chip.link + (4 + 1 + 1) * 1e-6
  assert found["all-gather/4"]["blocking_seconds"] == pytest.approx(gather)
  # The permutation hides behind the product; the gather hides behind nothing.
  waits = 5 * max(0.0, exchange - 1750 / on.chip.clock) + gather
  assert cost.waiting_seconds == pytest.approx(waits)
  moved = 2 * 512 * 256 * 4 + (512 * 256 * 6)  # f32 twice; bf16 in, f32 out
  assert cost.other_seconds + cost.kernel_seconds == pytest.approx(
      moved / on.chip.bandwidth / 0.8, rel=1e-4)  # counters are bytes too
  assert cost.seconds == pytest.approx(
      cost.matmul_seconds + cost.other_seconds + cost.kernel_seconds + waits)
  assert not cost.notes


def test_a_slice_of_what_the_host_holds_moves_alone():
  """As activations are kept in the host's memory, a layer at a time."""
  text = """\
ENTRY %main (x: bf16[40,512,256], i: s32[]) -> bf16[1,512,256] {
  %x = bf16[40,512,256]{2,1,0:S(5)} parameter(0)
  %i = s32[] parameter(1)
  %start = ((bf16[40,512,256]{2,1,0:S(5)}, s32[]), bf16[1,512,256]{2,1,0}, u32[]{:S(2)}) dynamic-slice-start(%x, %i)
  ROOT %y = bf16[1,512,256]{2,1,0} dynamic-slice-done(%start)
}
"""
  on = _topology()
  cost = schedule.Walk(hlo.parse(text), on).total()
  assert cost.host == 512 * 256 * 2
  assert cost.seconds == pytest.approx(cost.host / on.chip.pci)


def test_cores_share_heads_or_their_blocks():
  """Five heads on two cores: blocks of queries divide, heads do not."""
  text = """\
ENTRY %main (q: bf16[5,32768,128]) -> bf16[5,32768,128] {
  %q = bf16[5,32768,128]{2,1,0} parameter(0)
  ROOT %k = bf16[5,32768,128]{2,1,0} custom-call(%q, %q), custom_call_target="tpu_custom_call", metadata={op_name="NAME"}
}
"""
  seconds = []
  for name in ("flash_forward", "flash_backward"):
    within = hlo.parse(text.replace("NAME", name)).computations["main"]
    flops, time = kernels.price(within["k"], within, "v5p", set())
    tuned = kernels.SCHEDULES[name, "v5p"].step / (
        flash.TUNING["v5p"].forward[0] ** 2 if name == "flash_forward"
        else flash.TUNING["v5p"].backward[0] ** 2)
    assert flops == (2 if name == "flash_forward" else 5) * 2 * (
        5 * 32768**2 * 128)
    seconds.append(time / (tuned * 5 * 32768**2 / 2 / 1.75e9))
  assert seconds == pytest.approx([1.0, 6 / 5])


def test_rings_slices_and_kinds_of_exchange():
  group = (tuple(range(64)),)
  torus, part = _topology(shape=(4, 4, 4)), _topology(shape=(4, 4, 2))
  gather = collectives.Collective("all-gather", 1e9, group)
  reduce = collectives.Collective("all-reduce", 1e9, group)
  assert collectives.seconds(gather, torus) == pytest.approx(
      1e9 * 63 / 64 / (6 * 90e9), rel=0.02)
  assert collectives.seconds(reduce, torus) == pytest.approx(
      2 * collectives.seconds(gather, torus), rel=0.02)
  assert torus.ring(0) and not part.ring(0)  # too few for rings
  assert _topology("v6e", (16, 16, 1)).ring(0)
  assert not _topology("v6e", (8, 8, 1)).ring(0)
  two = _topology(shape=(4, 4, 2), slices=2)
  over = collectives.Collective("all-reduce", 1e9, group)
  assert collectives.seconds(over, two) > 1e9 / 32 / chips.DCN


@pytest.mark.parametrize(("text", "groups"), [
    ("replica_groups={{0,2},{1,3}}, x=1", ((0, 2), (1, 3))),
    ("replica_groups=[2,2]<=[2,2]T(1,0), x=1", ((0, 2), (1, 3))),
    ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
    ("replica_groups={}, x=1", ((0, 1, 2, 3),)),
])
def test_groups_are_read_in_every_spelling(text, groups):
  assert collectives._groups(text, 4) == groups


def test_steps_of_a_kernel_s_schedule():
  bundles = """
LB: loop body
  0x10 LB: > { sphi }
  0x20   : > { sbr.rel (%p1) target = $region7 }
  0x24   : > { sbr.rel (%p2) target = $region5 }
  0x28 PF: > { vld } /* Start/End empty region 5 */
  0x30   : > { %1 = vmatmul.bf16.gmra.mxu0 ;; %2 = vmatmul.bf16.gmra.mxu1 }
  0x4c PF: > { vld } /* Start/End empty region 7 */
  0x50   : > { 12 /* loop exit test */ }
"""
  assert kernel_schedule.step_cycles(bundles, 1, 4) == 0x40 - 4 + 4 / 4
  many = bundles.replace("vmatmul.bf16.gmra.mxu0",
                         " ".join(["vmatmul.bf16.gmra.mxu0"] * 9))
  assert kernel_schedule.step_cycles(many, 1, 4) == 9 * 16 + 1
  assert kernel_schedule.step_cycles(many, 2, 4) == 9 * 8 + 1


def test_topologies_by_name():
  assert chips.parse("v5p:4x4x4") == (1, "v5p", (4, 4, 4))
  assert chips.parse("2xv5e:16x16") == (2, "v5e", (16, 16))
  with pytest.raises(errors.ConfigError, match="Unknown TPU 'v6'; .* 'v6e'"):
    chips.parse("v6:8x8")
  with pytest.raises(errors.ConfigError, match="'8x8' is no topology"):
    chips.parse("8x8")


def test_a_missing_compiler_is_named(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(errors.ConfigError, match="libtpu.* pip install"):
    chips.prepare()
