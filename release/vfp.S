/* Arithmetic of doubles on ARMv6. Thumb code has no instructions for it and calls these functions (AAPCS, in the registers
   of integers), which compiler_builtins computes with integers in 3,700 bytes: every such processor has a VFP. */
  .syntax unified
  .arch armv6k
  .fpu vfp2
  .code 32
  .text

  .macro function name
  .section .text.\name,"ax",%progbits
  .globl \name
  .hidden \name
  .type \name, %function
  .p2align 2
\name:
  .endm

  /* d0 = r0:r1, d1 = r2:r3; what the instruction makes of them. */
  .macro two name, instruction
  function \name
  vmov d0, r0, r1
  vmov d1, r2, r3
  \instruction d0, d0, d1
  vmov r0, r1, d0
  bx lr
  .endm
  two __aeabi_dadd, vadd.f64
  two __aeabi_dsub, vsub.f64
  two __aeabi_dmul, vmul.f64
  two __aeabi_ddiv, vdiv.f64

  function sqrt
  vmov d0, r0, r1
  vsqrt.f64 d0, d0
  vmov r0, r1, d0
  bx lr

  .macro from name, kind
  function \name
  vmov s0, r0
  vcvt.f64.\kind d0, s0
  vmov r0, r1, d0
  bx lr
  .endm
  from __aeabi_i2d, s32
  from __aeabi_ui2d, u32

  function __aeabi_d2uiz
  vmov d0, r0, r1
  vcvt.u32.f64 s0, d0
  vmov r0, s0
  bx lr

  /* Flags of r0:r1 beside r2:r3, which stay; V: one of them is no number. */
  function minke_compare
  vmov d0, r0, r1
  vmov d1, r2, r3
  vcmp.f64 d0, d1
  vmrs APSR_nzcv, fpscr
  bx lr

  /* 1 where the condition holds. */
  .macro compare name, condition
  function \name
  mov ip, lr
  bl minke_compare
  mov r0, #0
  mov\condition r0, #1
  bx ip
  .endm
  compare __aeabi_dcmpeq, eq
  compare __aeabi_dcmplt, mi
  compare __aeabi_dcmple, ls
  compare __aeabi_dcmpge, ge
  compare __aeabi_dcmpgt, gt
  compare __aeabi_dcmpun, vs

  /* The second number where it is beyond the first one, or that is none; the condition holds where one is none, too. */
  .macro extreme name, condition
  function \name
  mov ip, lr
  bl minke_compare
  vcmpvs.f64 d0, d0
  vmrsvs APSR_nzcv, fpscr
  mov\condition r0, r2
  mov\condition r1, r3
  bx ip
  .endm
  extreme fmaximum_num, lt
  extreme fminimum_num, hi
