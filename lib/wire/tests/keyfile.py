"""GLib's key files: reads one per line of standard input (hex) and prints what GLib makes of it, a line each."""
import ctypes
import sys

glib = ctypes.CDLL("libglib-2.0.so.0")
P, S = ctypes.c_void_p, ctypes.c_char_p
glib.g_key_file_new.restype = P
glib.g_key_file_free.argtypes = [P]
glib.g_key_file_load_from_data.argtypes = [P, S, ctypes.c_size_t, ctypes.c_int, P]
glib.g_key_file_get_groups.argtypes = [P, P]
glib.g_key_file_get_groups.restype = ctypes.POINTER(S)
glib.g_key_file_get_keys.argtypes = [P, S, P, P]
glib.g_key_file_get_keys.restype = ctypes.POINTER(S)
for name in ["value", "string"]:
    call = getattr(glib, f"g_key_file_get_{name}")
    call.argtypes, call.restype = [P, S, S, P], S
glib.g_key_file_get_string_list.argtypes = [P, S, S, P, P]
glib.g_key_file_get_string_list.restype = ctypes.POINTER(S)
glib.g_key_file_get_locale_string.argtypes = [P, S, S, S, P]
glib.g_key_file_get_locale_string.restype = S
glib.g_key_file_get_boolean.argtypes = glib.g_key_file_get_integer.argtypes = [P, S, S, P]


def texts(array):
    found, index = [], 0
    while array and array[index] is not None:
        found.append(array[index])
        index += 1
    return found


def asked(call, *arguments):
    """The answer, or None on an error."""
    error = P()
    answer = call(*arguments, ctypes.byref(error))
    return None if error.value else answer


def shown(text):
    return "!" if text is None else "=" + text.hex()


for line in sys.stdin:
    data = bytes.fromhex(line.strip())
    file, error = glib.g_key_file_new(), P()
    # Comments and translations are kept.
    if not glib.g_key_file_load_from_data(file, data, len(data), 3, ctypes.byref(error)):
        print("refused")
        continue
    out = []
    for group in texts(glib.g_key_file_get_groups(file, None)):
        out.append("[" + group.hex())
        keys = []
        for key in texts(glib.g_key_file_get_keys(file, group, None, None)):
            if key in keys:
                continue
            keys.append(key)
            length = ctypes.c_size_t()
            items = asked(glib.g_key_file_get_string_list, file, group, key, ctypes.byref(length))
            items = None if items is None and length.value == 0 and asked(
                glib.g_key_file_get_string_list, file, group, key, None) is None else texts(items)
            flag = asked(glib.g_key_file_get_boolean, file, group, key)
            number = asked(glib.g_key_file_get_integer, file, group, key)
            # Of a text with a bad escape GLib's translations are what it had read of it; ours are an error.
            bad = any(asked(glib.g_key_file_get_string, file, group, other) is None for other in texts(
                glib.g_key_file_get_keys(file, group, None, None)) if other == key or other.startswith(key + b"["))
            local = None if b"[" in key or bad else asked(glib.g_key_file_get_locale_string, file, group, key, b"de_AT.UTF-8@euro")
            out.append(" ".join([
                key.hex(), asked(glib.g_key_file_get_value, file, group, key).hex() + ".",
                shown(asked(glib.g_key_file_get_string, file, group, key)),
                "!" if items is None else "=" + ",".join(item.hex() for item in items),
                "!" if flag is None else str(flag), "!" if number is None else str(number), shown(local)]))
    glib.g_key_file_free(file)
    print("|".join(out))
