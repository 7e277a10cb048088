"""What lnsub takes from tokenizers that has no public name; each function says which public way is missing."""


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of the library's Rust code, which some broken vocabularies cause.

    pyo3, which binds Rust to Python, raises it as ``PanicException``, on purpose no ``Exception``; and it exports the
    class to no module.
    """
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"
