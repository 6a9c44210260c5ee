"""Makes precompiled_charsmap tables (the normalizer of SentencePiece) for tests and probes.

    charsmap({"a": "b", "\\u00e9": "e"}) -> bytes

The table is a double array of 32-bit units over the bytes of the keys, then the replacements, each with a NUL at its
end (sentencepiece, src/normalizer.cc and third_party/darts_clone).
"""

import struct


def charsmap(replacements):
    root = {}
    blob = bytearray(b"\0")
    places = {}
    for key, value in replacements.items():
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        if value not in places:
            places[value] = len(blob)
            blob += value.encode() + b"\0"
        node[0] = places[value]
    units = {0: 0}
    leaves = {}  # value -> its unit; all nodes that only end a key with one value share it
    queue = [(0, root)]
    free = 256
    while queue:
        place, node = queue.pop()
        if list(node) == [0] and node[0] in leaves:
            base = leaves[node[0]]
        else:
            base = free  # a block of 256 units for each other node
            free += 256
            if list(node) == [0]:
                leaves[node[0]] = base
        offset = place ^ base
        assert offset < 1 << 29
        has_leaf = (1 << 8) if 0 in node else 0
        label = units[place] & 0xFF
        wide = offset >= 1 << 21
        assert not wide or offset & 0xFF == 0
        units[place] = label | has_leaf | ((offset >> 8) << 10 | 1 << 9 if wide else offset << 10)
        for byte, child in node.items():
            if byte == 0:
                units[base] = child | 1 << 31
            else:
                units[base ^ byte] = byte
                queue.append((base ^ byte, child))
    array = [0] * free
    for place, unit in units.items():
        array[place] = unit
    return struct.pack("<I", 4 * len(array)) + struct.pack(f"<{len(array)}I", *array) + bytes(blob)
