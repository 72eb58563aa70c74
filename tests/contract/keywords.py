"""Reserved words of the target languages of generated clients; no name in the contract may be one."""

KEYWORDS: dict[str, frozenset[str]] = {
    "go": frozenset(
        "break case chan const continue default defer else fallthrough for func go goto if import interface map "
        "package range return select struct switch type var".split()
    ),
    "java": frozenset(
        "abstract assert boolean break byte case catch char class const continue default do double else enum extends "
        "final finally float for goto if implements import instanceof int interface long native new package private "
        "protected public return short static strictfp super switch synchronized this throw throws transient try "
        "void volatile while true false null _".split()
    ),
    "python": frozenset(
        "False None True and as assert async await break class continue def del elif else except finally for from "
        "global if import in is lambda nonlocal not or pass raise return try while with yield".split()
    ),
    "javascript": frozenset(
        "arguments await break case catch class const continue debugger default delete do else enum eval export "
        "extends false finally for function if implements import in instanceof interface let new null package "
        "private protected public return static super switch this throw true try typeof undefined var void while "
        "with yield constructor hasOwnProperty prototype toString valueOf toJSON".split()
    ),
    "typescript": frozenset(
        "any as boolean declare get infer is keyof module namespace never readonly require number object set string "
        "symbol type unique unknown".split()
    ),
    "rust": frozenset(
        "Self abstract as async await become box break const continue crate do dyn else enum extern false final fn "
        "for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super "
        "trait true try type typeof unsafe unsized use virtual where while yield".split()
    ),
    "c++": frozenset(
        "NULL alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t "
        "class co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue "
        "decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto "
        "if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected "
        "public register reinterpret_cast requires return short signed sizeof static static_assert static_cast "
        "struct switch template this thread_local throw true try typedef typeid typename union unsigned using "
        "virtual void volatile wchar_t while xor xor_eq errno stdin stdout stderr assert".split()
    ),
    "c#": frozenset(
        "abstract as base bool break byte case catch char checked class const continue decimal default delegate do "
        "double else enum event explicit extern false finally fixed float for foreach goto if implicit in int "
        "interface internal is lock long namespace new null object operator out override params private protected "
        "public readonly ref return sbyte sealed short sizeof stackalloc static string struct switch this throw true "
        "try typeof uint ulong unchecked unsafe ushort using virtual void volatile while".split()
    ),
    "kotlin": frozenset(
        "as break class continue do else false for fun if in interface is null object package return super this "
        "throw true try typealias typeof val var when while".split()
    ),
    "ruby": frozenset(
        "BEGIN END alias and begin break case class def defined? do else elsif end ensure false for if in module "
        "next nil not or redo rescue retry return self super then true undef unless until when while yield method "
        "object_id send initialize".split()
    ),
    "php": frozenset(
        "abstract and array as break callable case catch class clone const continue declare default die do echo else "
        "elseif empty enddeclare endfor endforeach endif endswitch endwhile enum eval exit extends final finally fn "
        "for foreach function global goto if implements include include_once instanceof insteadof interface isset "
        "list match namespace new or print private protected public readonly require require_once return static "
        "switch throw trait try unset use var while xor yield int float bool string true false null void iterable "
        "object mixed never self parent".split()
    ),
    "swift": frozenset(
        "Any Protocol Self Type as associatedtype async await break case catch class continue default defer deinit "
        "do else enum extension fallthrough false fileprivate for func guard if import in init inout internal is let "
        "nil open operator private precedencegroup protocol public repeat rethrows return self static struct "
        "subscript super switch throw throws true try typealias var where while".split()
    ),
    "objective-c": frozenset(
        "BOOL Class IMP NO NULL Nil Protocol SEL YES alloc atomic auto autorelease bycopy byref char const copy "
        "dealloc description double else enum extern float hash id init inline inout instancetype int isProxy long "
        "nil nonatomic oneway out release register restrict retain retainCount self short signed sizeof static "
        "strong struct super switch typedef union unsigned void volatile weak while zone".split()
    ),
}
"""{language: its words}, including contextual words that the generated code would have to escape or rename."""


def reserved(name: str, *, any_case_in: frozenset[str] = frozenset()) -> list[str]:
    """Languages in which `name` is a keyword; for languages in `any_case_in` in any letter case."""
    return [
        language
        for language, words in KEYWORDS.items()
        if name in words or (language in any_case_in and name.lower() in words)
    ]
