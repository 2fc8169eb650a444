//! What the CPUs can do: the ID registers (Arm ARM D24.2), as programs see them in HWCAP and by MRS.

use aarch64_cpu::registers::*;
use tock_registers::fields::Field;
use tock_registers::interfaces::Readable;
use tock_registers::register_bitfields;

register_bitfields! {u64,
    ISAR0 [
        AES OFFSET(4) NUMBITS(4) [],
        SHA1 OFFSET(8) NUMBITS(4) [],
        SHA2 OFFSET(12) NUMBITS(4) [],
        CRC32 OFFSET(16) NUMBITS(4) [],
        ATOMIC OFFSET(20) NUMBITS(4) [],
        RDM OFFSET(28) NUMBITS(4) [],
        SHA3 OFFSET(32) NUMBITS(4) [],
        SM3 OFFSET(36) NUMBITS(4) [],
        SM4 OFFSET(40) NUMBITS(4) [],
        DP OFFSET(44) NUMBITS(4) [],
        FHM OFFSET(48) NUMBITS(4) [],
        TS OFFSET(52) NUMBITS(4) [],
        RNDR OFFSET(60) NUMBITS(4) [],
    ],
    ISAR1 [
        DPB OFFSET(0) NUMBITS(4) [],
        JSCVT OFFSET(12) NUMBITS(4) [],
        FCMA OFFSET(16) NUMBITS(4) [],
        LRCPC OFFSET(20) NUMBITS(4) [],
        SB OFFSET(36) NUMBITS(4) [],
    ],
    PFR0 [
        EL0 OFFSET(0) NUMBITS(4) [AArch64 = 1],
        EL1 OFFSET(4) NUMBITS(4) [AArch64 = 1],
        FP OFFSET(16) NUMBITS(4) [Half = 1, None = 0xf],
        ADVSIMD OFFSET(20) NUMBITS(4) [Half = 1, None = 0xf],
        DIT OFFSET(48) NUMBITS(4) [],
    ],
    MMFR2 [
        AT OFFSET(32) NUMBITS(4) [],
    ],
}

/// Bits of AT_HWCAP (Linux: arch/arm64/include/uapi/asm/hwcap.h) that one field of an ID register tells: the bit, the field, and from
/// which of its values on.
const OF_ISAR0: &[(u32, Field<u64, ISAR0::Register>, u64)] = &[
    (3, ISAR0::AES, 1),    // AES
    (4, ISAR0::AES, 2),    // PMULL
    (5, ISAR0::SHA1, 1),   // SHA1
    (6, ISAR0::SHA2, 1),   // SHA2
    (7, ISAR0::CRC32, 1),  // CRC32
    (8, ISAR0::ATOMIC, 2), // ATOMICS
    (12, ISAR0::RDM, 1),   // ASIMDRDM
    (17, ISAR0::SHA3, 1),  // SHA3
    (18, ISAR0::SM3, 1),   // SM3
    (19, ISAR0::SM4, 1),   // SM4
    (20, ISAR0::DP, 1),    // ASIMDDP
    (21, ISAR0::SHA2, 2),  // SHA512
    (23, ISAR0::FHM, 1),   // ASIMDFHM
    (27, ISAR0::TS, 1),    // FLAGM
];
const OF_ISAR1: &[(u32, Field<u64, ISAR1::Register>, u64)] = &[
    (13, ISAR1::JSCVT, 1), // JSCVT
    (14, ISAR1::FCMA, 1),  // FCMA
    (15, ISAR1::LRCPC, 1), // LRCPC
    (16, ISAR1::DPB, 1),   // DCPOP
    (26, ISAR1::LRCPC, 2), // ILRCPC
    (29, ISAR1::SB, 1),    // SB
];
const FP: u64 = 1 << 0;
const ASIMD: u64 = 1 << 1;
const FPHP: u64 = 1 << 9;
const ASIMDHP: u64 = 1 << 10;
/// MRS of ID registers is emulated.
const CPUID: u64 = 1 << 11;
const DIT: u64 = 1 << 24;
const USCAT: u64 = 1 << 25;
/// Of AT_HWCAP2.
const RNG: u64 = 1 << 16;

/// ELF hardware capability words for the auxiliary vector (AT_HWCAP, AT_HWCAP2), of features every CPU has.
pub fn hwcaps() -> (u64, u64) {
    let (isar0, isar1) = (ID_AA64ISAR0_EL1.get(), ID_AA64ISAR1_EL1.get());
    let (pfr0, mmfr2) = (ID_AA64PFR0_EL1.get(), ID_AA64MMFR2_EL1.get());
    let of_isar0 = OF_ISAR0.iter().filter(|(_, field, least)| field.read(isar0) >= *least).map(|(bit, ..)| *bit);
    let of_isar1 = OF_ISAR1.iter().filter(|(_, field, least)| field.read(isar1) >= *least).map(|(bit, ..)| *bit);
    let mut caps = of_isar0.chain(of_isar1).fold(CPUID, |caps, bit| caps | 1 << bit);
    let others = [
        (!PFR0::FP::None.matches_all(pfr0), FP),
        (PFR0::FP::Half.matches_all(pfr0), FPHP),
        (!PFR0::ADVSIMD::None.matches_all(pfr0), ASIMD),
        (PFR0::ADVSIMD::Half.matches_all(pfr0), ASIMDHP),
        (PFR0::DIT.read(pfr0) >= 1, DIT),
        (MMFR2::AT.read(mmfr2) >= 1, USCAT),
    ];
    for (_, bit) in others.iter().filter(|(has, _)| *has) {
        caps |= bit;
    }
    (caps, if has_random() { RNG } else { 0 })
}

/// Whether the CPUs have RNDR (FEAT_RNG).
pub(crate) fn has_random() -> bool {
    ISAR0::RNDR.read(ID_AA64ISAR0_EL1.get()) >= 1
}

/// The bits of a field.
const fn bits<R: tock_registers::RegisterLongName>(field: Field<u64, R>) -> u64 {
    field.mask << field.shift
}

/// What EL0 reads for ID register `op0=3, op1=0, CRn=0, CRm=crm, op2`: hidden features read as absent.
pub(crate) fn emulated_id_register(crm: u32, op2: u32) -> Option<u64> {
    /// MPIDR_EL1 without topology, ID_AA64DFR0_EL1 with ARMv8 debug, ID_AA64MMFR0_EL1 without granules: as Linux shows them.
    const MPIDR: u64 = 1 << 31;
    const DFR0: u64 = 6;
    const MMFR0: u64 = 0xff00_0000;
    const SHOWN_PFR0: u64 = bits(PFR0::FP) | bits(PFR0::ADVSIMD) | bits(PFR0::DIT);
    /// All but fields that no program has a use for: bits 3 to 0, 27 to 24 (TME) and 59 to 56 (TLB).
    const SHOWN_ISAR0: u64 = 0xf0ff_ffff_f0ff_fff0;
    const SHOWN_ISAR1: u64 =
        bits(ISAR1::DPB) | bits(ISAR1::JSCVT) | bits(ISAR1::FCMA) | bits(ISAR1::LRCPC) | bits(ISAR1::SB);
    Some(match (crm, op2) {
        (0, 0) => MIDR_EL1.get(),
        (0, 5) => MPIDR,
        (4, 0) => ID_AA64PFR0_EL1.get() & SHOWN_PFR0 | (PFR0::EL0::AArch64 + PFR0::EL1::AArch64).value,
        (5, 0) => DFR0,
        (6, 0) => ID_AA64ISAR0_EL1.get() & SHOWN_ISAR0,
        (6, 1) => ID_AA64ISAR1_EL1.get() & SHOWN_ISAR1,
        (7, 0) => MMFR0,
        (7, 2) => ID_AA64MMFR2_EL1.get() & bits(MMFR2::AT),
        // REVIDR_EL1, ID_AA64PFR1_EL1 and all others.
        // Those of the 32-bit machine are undefined here, as on Linux.
        (0, 6) | (4..=7, 0..=7) => 0,
        _ => return None,
    })
}
