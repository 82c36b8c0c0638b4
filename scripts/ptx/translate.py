"""PTX to C++: every kernel becomes a function that one CUDA thread calls, with a counter for each of its basic blocks.

A register becomes a variable, an instruction a statement, a label a label. Functions of ``runtime.h`` read and write memory,
and check alignment and the bounds of shared memory. They are also the barriers, warp instructions and atomics. An unknown
instruction ends the translation: nothing is left out silently.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field

TYPES = {"u8": "uint8_t", "s8": "int8_t", "b8": "uint8_t", "f32": "float", "f64": "double", "pred": "bool"}
TYPES |= {"f16": "uint16_t", "bf16": "uint16_t"}
TYPES |= {f"{kind}{bits}": f"{'int' if kind == 's' else 'uint'}{bits}_t" for kind in "usb" for bits in (16, 32, 64)}
REGISTERS = {"p": "bool", "rs": "uint16_t", "r": "uint32_t", "f": "float", "rd": "uint64_t", "fd": "double"}
REGISTER = re.compile(r"%(p|rs|r|f|rd|fd)(\d+)")
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
OPPOSITE = {"lt": ">=", "le": ">", "gt": "<=", "ge": "<", "ne": "=="}
BINARY = {"and": "&", "or": "|", "xor": "^", "add": "+", "sub": "-", "mul": "*"}
SHARED_START = 64
"""Where a kernel's own shared memory begins; what the whole file shares comes before."""


class UnknownInstructionError(RuntimeError):
    """PTX that this translator does not know."""


@dataclass
class Kernel:
    """A kernel as C++."""

    name: str
    """Demangled, as C++ writes the type of its function object."""
    source: str
    parameter_bytes: int
    shared_bytes: int
    blocks: list[Counter[str]] = field(default_factory=list)
    """Instructions of every basic block, by kind."""


def kernels(ptx: str, wanted: str = "") -> list[Kernel]:
    """Every kernel of a file of PTX; those whose name matches the expression ``wanted``."""
    entries = re.findall(r"\.entry (\S+)\(\n(.*?)\n\)\n(?:.*?)\n\{\n(.*?)\n\}\n", ptx, re.DOTALL)
    names = subprocess.run(["c++filt"], input="\n".join(e[0] for e in entries), capture_output=True, text=True, check=True)
    outer = {
        m[2]: (int(m[1]), int(m[3] or 1))
        for m in re.finditer(r"^\.shared \.align (\d+) \.[bu]8 (\S+?)(?:\[(\d+)\])?;", ptx, re.MULTILINE)
    }
    made = []
    for (_, parameters, body), demangled in zip(entries, names.stdout.split("\n"), strict=False):
        name = re.sub(r"^.*?run_kernel<(.*)>\(.*$", r"\1", demangled).strip()
        if re.search(wanted, name):
            made.append(_Function(name, parameters, body, outer).kernel())
    return made


class _Function:
    def __init__(self, name: str, parameters: str, body: str, outer: dict[str, tuple[int, int]]) -> None:
        self.name, self.body = name, body
        found = list(re.finditer(r"\.param \.(?:align \d+ )?\.?(\w+) (\S+?)(?:\[(\d+)\])?,?$", parameters, re.MULTILINE))
        self.parameters = {m[2]: k for k, m in enumerate(found)}
        self.parameter_bytes = int(found[0][3] or 8)
        self.shared: dict[str, int] = {}
        at = 0
        for symbol, (align, size) in outer.items():
            at = -(-at // align) * align
            self.shared[symbol] = at
            at += size
        if at > SHARED_START:
            raise UnknownInstructionError(
                f"the file shares {at} bytes among its kernels; {SHARED_START} are set apart for them"
            )
        at = SHARED_START
        for m in re.finditer(r"\.shared \.align (\d+) \.\w+ (\S+?)\[(\d+)\];", body):
            at = -(-at // int(m[1])) * int(m[1])
            self.shared[m[2]] = at
            at += int(m[3])
        self.shared_bytes = at
        self.local = {m[1]: int(m[2]) for m in re.finditer(r"\.local \.align \d+ \.b8\s+(\S+?)\[(\d+)\];", body)}
        self.code: list[str] = []
        self.blocks: list[Counter[str]] = []

    def kernel(self) -> Kernel:
        registers = re.findall(r"\.reg \.\w+\s+%(\w+)<(\d+)>;", self.body)
        for kind, count in registers:
            self.code.append(f"  {REGISTERS[kind]} " + ", ".join(f"{kind}_{k} = 0" for k in range(int(count))) + ";")
        for symbol, size in self.local.items():
            self.code.append(f"  alignas(16) uint8_t {symbol}[{size}] = {{}};")
        self.begin_block()
        text = re.sub(r"//.*", "", self.body)
        text = re.sub(r"\{\s*\.reg \.b\d+ %tmp;", "", text)
        text = text.replace("%tmp; }", "%tmp;")
        text = re.sub(r"^\s*\.(reg|shared|local|pragma|loc)\b[^;]*;", "", text, flags=re.MULTILINE)
        for part in re.split(r"(\$L__BB\d+_\d+:)|;", text):
            statement = (part or "").strip()
            if statement.startswith("$L"):
                self.code.append(f" {statement.replace('$L__', 'L_')};")
                self.begin_block()
                continue
            statement = statement.lstrip("{} \n\t")  # of a scope; an operand's braces never come first
            if statement:
                self.statement(statement)
        source = "\n".join(
            [
                f"void NAME(const uint8_t* const* P, uint8_t* SH, uint32_t* C) {{ // {self.name}",
                f"  constexpr uint32_t kShared = {self.shared_bytes};",
                "  uint64_t tmp = 0;",
                "  (void)tmp, (void)kShared, (void)SH;",
                *self.code,
                "}",
                "",
            ]
        )
        return Kernel(self.name, source, self.parameter_bytes, self.shared_bytes, self.blocks)

    def begin_block(self) -> None:
        self.code.append(f"  ++C[{len(self.blocks)}];")
        self.blocks.append(Counter())

    def statement(self, text: str) -> None:
        found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([a-z0-9_.]+)(?:\s+(.*))?", text, re.DOTALL)
        if not found:
            raise UnknownInstructionError(f"{self.name}: {text!r}")
        guard = f"if ({found[1]}{self.register(found[2])}) " if found[2] else ""
        operation, rest = found[3], (found[4] or "").strip()
        kind = operation.split(".")[0]
        self.blocks[-1][".".join(operation.split(".")[:2]) if kind in {"ld", "st", "atom"} else kind] += 1
        if kind == "bra":
            self.code.append(f"  {guard}goto {rest.replace('$L__', 'L_')};")
            self.begin_block()
        elif kind == "ret":
            self.code.append(f"  {guard}return;")
            self.begin_block()
        else:
            try:
                self.code.append(f"  {guard}{{ {self.translate(operation, _arguments(rest))} }}")
            except (KeyError, IndexError, TypeError) as error:
                raise UnknownInstructionError(f"{self.name}: {text}") from error

    # ------------------------------------------------------------------------------------------- operands
    @staticmethod
    def register(text: str) -> str:
        found = REGISTER.fullmatch(text)
        return f"{found[1]}_{found[2]}"  # type: ignore[index]

    def value(self, text: str, kind: str) -> str:
        """A C++ expression of an operand, read as a type of PTX."""
        text, c = text.strip(), TYPES[kind]
        found = REGISTER.fullmatch(text)
        if found:
            name = f"{found[1]}_{found[2]}"
            if kind == "pred":
                return name
            if kind in {"f32", "f64"} and found[1] in {"r", "rd"}:
                return f"as_float({name})"
            if kind not in {"f32", "f64"} and found[1] in {"f", "fd"}:
                return f"({c})bits_of({name})"
            return f"({c}){name}"
        special = {
            "%tid.x": "thread_index()",
            "%ctaid.x": "block_index()",
            "%ntid.x": "block_size()",
            "%laneid": "(thread_index() & 31)",
        }
        if text in special:
            return f"({c}){special[text]}"
        if text in {"%tmp", "%SP", "%SPL"}:
            return f"({c})tmp"
        if found := re.fullmatch(r"0f([0-9A-Fa-f]{8})", text):
            return f"as_float((uint32_t)0x{found[1]}u)"
        if found := re.fullmatch(r"0d([0-9A-Fa-f]{16})", text):
            return f"as_float((uint64_t)0x{found[1]}ull)"
        if re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", text):
            return f"({c})0x{int(text, 0) & 0xFFFFFFFFFFFFFFFF:x}ull"
        if text in self.shared:
            return f"({c}){self.shared[text]}"
        if text in self.local:
            return f"({c})(uint64_t){text}"
        return f"({c})(uint64_t)P[{self.parameters[text]}]"

    def assign(self, text: str, kind: str, expression: str) -> str:
        if text in {"%tmp", "%SP", "%SPL"}:
            return f"tmp = {expression};"
        found = REGISTER.fullmatch(text)
        name = self.register(text)
        if found[1] == "f" and kind != "f32":  # type: ignore[index]
            return f"{name} = as_float((uint32_t)({expression}));"
        if found[1] == "fd" and kind != "f64":  # type: ignore[index]
            return f"{name} = as_float((uint64_t)({expression}));"
        if found[1] in {"r", "rd"} and kind in {"f32", "f64"}:  # type: ignore[index]
            return f"{name} = bits_of({expression});"
        return f"{name} = ({REGISTERS[found[1]]})({expression});"  # type: ignore[index]  # C extends by the expression's sign

    def address(self, text: str, space: str) -> str:
        found = re.fullmatch(r"\[(.+?)(?:\+(-?\d+))?\]", text)
        base, offset = found[1], int(found[2] or 0)  # type: ignore[index]
        if space == "param" and base in self.parameters:
            return f"(uint8_t*)(P[{self.parameters[base]}] + {offset})"
        if space == "shared":
            start = (
                str(self.shared[base])
                if base in self.shared
                else self.value(base, "u32" if base.startswith("%r") and base[2] != "d" else "u64")
            )
            return f"shared_at(SH, (uint32_t)({start} + {offset}), kShared)"
        return f"((uint8_t*)({self.value(base, 'u64')}) + ({offset}ll))"

    # ------------------------------------------------------------------------------------------- instructions
    def translate(self, operation: str, a: list[str]) -> str:
        parts = operation.split(".")
        op, kind = parts[0], parts[-1]
        handler = getattr(self, f"op_{op}", None)
        if handler is not None:
            return handler(parts, kind, a)
        v = lambda k, t=kind: self.value(a[k], t)  # noqa: E731
        floating = kind in {"f32", "f64"}
        if op in BINARY and (op != "mul" or floating or parts[1] == "lo"):
            t = kind if floating or op in {"and", "or", "xor"} else f"u{kind[1:]}"
            return self.assign(a[0], kind, f"{v(1, t)} {BINARY[op]} {v(2, t)}")
        simple = {
            "rem": lambda: f"{v(1)} % {v(2)}",
            "rcp": lambda: f"1 / {v(1)}",
            "abs": lambda: f"std::fabs({v(1)})" if floating else f"({v(1)} < 0 ? -{v(1)} : {v(1)})",
            "neg": lambda: f"-{v(1)}" if floating else f"0 - {v(1, f'u{kind[1:]}')}",
            "not": lambda: f"!{v(1)}" if kind == "pred" else f"~{v(1)}",
            "fma": lambda: f"std::fma({v(1)}, {v(2)}, {v(3)})",
            "sqrt": lambda: f"std::sqrt({v(1)})",
            "div": lambda: f"{v(1)} / {v(2)}" if floating else f"divided({v(1)}, {v(2)})",
            "selp": lambda: f"{v(3, 'pred')} ? {v(1)} : {v(2)}",
            "activemask": lambda: "active_mask()",
            "popc": lambda: f"__builtin_popcount({v(1)})" if kind == "b32" else f"__builtin_popcountll({v(1)})",
            "clz": lambda: f"({v(1)} ? __builtin_clz({v(1)}) : 32)",
            "brev": lambda: f"reversed({v(1)})",
            "bfind": lambda: f"({v(1)} ? (uint32_t)__builtin_clz({v(1)}) : 0xffffffffu)",  # bfind.shiftamt.u32
            "prmt": lambda: f"permuted({v(1)}, {v(2)}, {v(3)})",
            "bfi": lambda: f"inserted({v(1)}, {v(2)}, {v(3, 'u32')}, {v(4, 'u32')})",
            "bfe": lambda: f"extracted({v(1)}, {v(2, 'u32')}, {v(3, 'u32')})",
        }
        if op in {"bfind"} and parts[1] != "shiftamt":
            raise KeyError(op)
        if op in {"bar", "barrier"}:
            if parts[1] == "warp":
                return f"(void)warp_exchange(kSyncWarp, {self.value(a[0], 'b32')}, 0, 0, 0);"
            return "barrier();"
        if op in {"membar", "fence"}:
            return "fence();"
        return self.assign(a[0], kind, simple[op]())

    def op_mov(self, parts: list[str], kind: str, a: list[str]) -> str:
        half = {"b64": ("b32", 32), "b32": ("b16", 16)}
        if a[0].startswith("{"):
            part, width = half[kind]
            pieces = enumerate(a[0].strip("{}").split(","))
            source = self.value(a[1], kind)
            return " ".join(
                self.assign(d.strip(), part, f"({TYPES[part]})(({source}) >> {width * k})")
                for k, d in pieces
                if d.strip() != "_"
            )
        if a[1].startswith("{"):
            part, width = half[kind]
            pieces = enumerate(a[1].strip("{}").split(","))
            return self.assign(
                a[0], kind, " | ".join(f"(({TYPES[kind]})({self.value(s.strip(), part)}) << {width * k})" for k, s in pieces)
            )
        return self.assign(a[0], kind, self.value(a[1], kind))

    def op_mul(self, parts: list[str], kind: str, a: list[str]) -> str:
        if kind in {"f32", "f64"}:
            return self.assign(a[0], kind, f"{self.value(a[1], kind)} * {self.value(a[2], kind)}")
        wide = {"s32": "int64_t", "u32": "uint64_t", "s16": "int32_t", "u16": "uint32_t"}
        if parts[1] == "lo":
            t = f"u{kind[1:]}"
            return self.assign(a[0], kind, f"{self.value(a[1], t)} * {self.value(a[2], t)}")
        if parts[1] == "wide":
            return self.assign(a[0], "b64", f"({wide[kind]}){self.value(a[1], kind)} * ({wide[kind]}){self.value(a[2], kind)}")
        return self.assign(a[0], kind, f"(({wide[kind]}){self.value(a[1], kind)} * {self.value(a[2], kind)}) >> 32")

    def op_mad(self, parts: list[str], kind: str, a: list[str]) -> str:
        if parts[1] == "lo":
            x, y, z = (self.value(t, f"u{kind[1:]}") for t in a[1:])
            return self.assign(a[0], kind, f"{x} * {y} + {z}")
        wide = {"s32": "s64", "u32": "u64"}[kind] if parts[1] == "wide" else None
        x, y, z = self.value(a[1], kind), self.value(a[2], kind), self.value(a[3], wide)  # type: ignore[arg-type]
        return self.assign(a[0], "b64", f"({TYPES[wide]}){x} * ({TYPES[wide]}){y} + {z}")  # type: ignore[index]

    def op_min(self, parts: list[str], kind: str, a: list[str]) -> str:
        x, y = self.value(a[1], kind), self.value(a[2], kind)
        if kind in {"f32", "f64"}:
            if "NaN" in parts:
                raise KeyError("NaN")
            return self.assign(a[0], kind, f"std::f{parts[0]}({x}, {y})")
        return self.assign(a[0], kind, f"{x} {'<' if parts[0] == 'min' else '>'} {y} ? {x} : {y}")

    op_max = op_min

    def op_shl(self, parts: list[str], kind: str, a: list[str]) -> str:
        x, by, bits = self.value(a[1], kind), self.value(a[2], "u32"), kind[1:]
        beyond = f"({x} < 0 ? -1 : 0)" if parts[0] == "shr" and kind[0] == "s" else "0"
        c = TYPES[kind]
        return self.assign(
            a[0], kind, f"{by} >= {bits}u ? ({c}){beyond} : ({c})({x} {'<<' if parts[0] == 'shl' else '>>'} {by})"
        )

    op_shr = op_shl

    def op_shf(self, parts: list[str], kind: str, a: list[str]) -> str:
        low, high, by = (self.value(t, "u32") for t in a[1:])
        if parts[2] != "wrap":
            raise KeyError(parts[2])
        pair = f"(((uint64_t){high} << 32) | {low})"
        shifted = f"({pair} << ({by} & 31)) >> 32" if parts[1] == "l" else f"{pair} >> ({by} & 31)"
        return self.assign(a[0], kind, f"(uint32_t)({shifted})")

    def compared(self, how: str, kind: str, x: str, y: str) -> str:
        x, y = self.value(x, kind), self.value(y, kind)
        if kind not in {"f32", "f64"}:
            return f"({x} {COMPARE[how]} {y})"
        if how in {"num", "nan"}:
            return f"({'!' if how == 'num' else ''}(std::isnan({x}) || std::isnan({y})))"
        if how.endswith("u"):  # unordered: also true of NaN
            how = how[:-1]
            return f"!({x} < {y} || {x} > {y})" if how == "eq" else f"!({x} {OPPOSITE[how]} {y})"
        return f"({x} < {y} || {x} > {y})" if how == "ne" else f"({x} {COMPARE[how]} {y})"

    def op_setp(self, parts: list[str], kind: str, a: list[str]) -> str:
        test = self.compared(parts[1], kind, a[1], a[2])
        if len(parts) > 3 and parts[2] in {"and", "or", "xor"}:
            test = (
                f"({test} {BINARY[parts[2]]} {self.value(a[3].lstrip('!'), 'pred')})"
                if not a[3].startswith("!")
                else f"({test} {BINARY[parts[2]]} !{self.value(a[3].lstrip('!'), 'pred')})"
            )
        return f"{self.register(a[0])} = {test};"

    def op_set(self, parts: list[str], kind: str, a: list[str]) -> str:
        answer = parts[-2]
        yes, no = ("1.0f", "0.0f") if answer == "f32" else ("0xffffffffu", "0u")
        return self.assign(a[0], answer, f"{self.compared(parts[1], kind, a[1], a[2])} ? {yes} : {no}")

    def op_cvt(self, parts: list[str], kind: str, a: list[str]) -> str:
        to, c = parts[-2], TYPES[parts[-2]]
        x = self.value(a[1], kind)
        if (to, kind) in {("f32", "f16"), ("f32", "bf16"), ("f16", "f32"), ("bf16", "f32")}:
            return self.assign(a[0], to, f"{kind}_to_{to}({x})")
        if "rzi" in parts:
            return self.assign(a[0], to, f"truncated<{c}>({x})")
        if "rmi" in parts:
            return self.assign(a[0], to, f"std::floor({x})")
        if {"sat", "rni", "rpi", "rm", "rp"} & set(parts):
            raise KeyError(parts)
        return self.assign(a[0], to, f"({c}){x}")

    def op_cvta(self, parts: list[str], kind: str, a: list[str]) -> str:
        if parts[1] == "shared":
            return self.assign(a[0], "u64", f"(uint64_t)(SH + (uint32_t){self.value(a[1], 'u64')})")
        return self.assign(a[0], "u64", self.value(a[1], "u64"))

    def op_ld(self, parts: list[str], kind: str, a: list[str]) -> str:
        at = self.address(a[1], parts[1])
        size = int(kind[1:]) // 8
        if a[0].startswith("{"):
            into = [x.strip() for x in a[0].strip("{}").split(",")]
            each = " ".join(self.assign(d, kind, f"load<{TYPES[kind]}>(at_ + {size * k})") for k, d in enumerate(into))
            return f"const uint8_t* at_ = {at}; check_aligned(at_, {size * len(into)}); {each}"
        return self.assign(a[0], kind, f"load<{TYPES[kind]}>({at})")

    def op_st(self, parts: list[str], kind: str, a: list[str]) -> str:
        at = self.address(a[0], parts[1])
        size = int(kind[1:]) // 8
        if a[1].startswith("{"):
            what = [x.strip() for x in a[1].strip("{}").split(",")]
            each = " ".join(f"store<{TYPES[kind]}>(at_ + {size * k}, {self.value(s, kind)});" for k, s in enumerate(what))
            return f"uint8_t* at_ = {at}; check_aligned(at_, {size * len(what)}); {each}"
        return f"store<{TYPES[kind]}>({at}, {self.value(a[1], kind)});"

    def op_atom(self, parts: list[str], kind: str, a: list[str]) -> str:
        at = self.address(a[1], parts[1])
        what = {"add": "atomic_add", "max": "atomic_max", "min": "atomic_min"}[parts[2]]
        return self.assign(a[0], kind, f"{what}(({TYPES[kind]}*){at}, {self.value(a[2], kind)})")

    def op_red(self, parts: list[str], kind: str, a: list[str]) -> str:
        what = {"add": "atomic_add", "max": "atomic_max", "min": "atomic_min"}[parts[2]]
        return f"(void){what}(({TYPES[kind]}*){self.address(a[0], parts[1])}, {self.value(a[1], kind)});"

    def op_match(self, parts: list[str], kind: str, a: list[str]) -> str:
        into, same = a[0].split("|")
        got = f"const uint64_t got_ = warp_exchange(kMatchAll, {self.value(a[2], 'b32')}, {self.value(a[1], 'b32')}, 0, 0);"
        return f"{got} {self.assign(into, 'b32', '(uint32_t)got_')} {self.register(same)} = got_ >> 32 != 0;"

    def op_shfl(self, parts: list[str], kind: str, a: list[str]) -> str:
        how = {"up": "kShuffleUp", "down": "kShuffleDown", "bfly": "kShuffleXor", "idx": "kShuffleIndex"}[parts[2]]
        into, _, inside = a[0].partition("|")
        x, by, clamp, mask = (self.value(t, "b32") for t in a[1:])
        got = f"const uint64_t got_ = warp_exchange({how}, {mask}, {x}, {by}, {clamp});"
        return f"{got} {self.assign(into, 'b32', '(uint32_t)got_')}" + (
            f" {self.register(inside)} = got_ >> 32 != 0;" if inside else ""
        )

    def op_vote(self, parts: list[str], kind: str, a: list[str]) -> str:
        how = {"ballot": "kBallot", "any": "kAny", "all": "kAll"}[parts[2]]
        negate, source = ("!", a[1][1:]) if a[1].startswith("!") else ("", a[1])
        return self.assign(
            a[0], kind, f"(uint32_t)warp_exchange({how}, {self.value(a[2], 'b32')}, {negate}{self.value(source, 'pred')}, 0, 0)"
        )


def _arguments(text: str) -> list[str]:
    return [piece.strip() for piece in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", text)]


def library(found: list[Kernel]) -> tuple[list[str], str]:
    """C++ of every kernel, each a file of its own, and of the table that lists them."""
    kinds = sorted({kind for kernel in found for block in kernel.blocks for kind in block})
    include = '#include "runtime.h"\nusing namespace ptx;\n'
    files = [include + kernel.source.replace("void NAME(", f"void kernel_{k}(", 1) for k, kernel in enumerate(found)]
    table = [include, *(f"void kernel_{k}(const uint8_t* const*, uint8_t*, uint32_t*);" for k in range(len(found)))]
    for k, kernel in enumerate(found):
        counts = ",".join(str(block[kind]) for block in kernel.blocks for kind in kinds)
        table.append(f"static const uint16_t mix_{k}[] = {{{counts}}};")
    rows = [
        f'  {{"{x.name}", kernel_{k}, {x.parameter_bytes}, {x.shared_bytes}, {len(x.blocks)}, mix_{k}}},'
        for k, x in enumerate(found)
    ]
    table += ["namespace ptx {", "const Kernel kernels[] = {", *rows, "};", f"const int kernel_count = {len(found)};"]
    names = ", ".join(f'"{kind}"' for kind in kinds)
    table += [f"const char* const kinds[] = {{{names}}};", f"const int kind_count = {len(kinds)};", "}  // namespace ptx", ""]
    return files, "\n".join(table)
