"""XMP packets: what JPEG cuts out of them, and what they announce that is not there any more.

A packet is kept byte for byte as long as nothing of it must change. Where something must, it is
parsed; one that cannot be parsed is left alone, or left out where it would tell an untruth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias
from xml.dom import minidom
from xml.dom.minidom import Document
from xml.parsers.expat import ExpatError

# The stubs of minidom type every node as many; to them an element is anything.
Element: TypeAlias = Any
Node: TypeAlias = Any

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_NOTE = "http://ns.adobe.com/xmp/note/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_EXTENDED = "HasExtendedXMP"
# What says that another picture or a film follows the picture in its file.
_ANNOUNCING = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.google.com/photos/dd/1.0/container/",
)
_CAMERA = "http://ns.google.com/photos/1.0/camera/"  # of which only these do
_FILM = ("MotionPhoto", "MicroVideo")
_DEEPEST = 100
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_TAIL = '<?xpacket end="w"?>'


def announces_more(xmp: bytes) -> bool:
    """True if a packet may announce pictures or films behind the picture."""
    text = _narrow(xmp)
    return any(name.encode() in text for name in (*_ANNOUNCING, *_FILM))


def without_announcements(xmp: bytes) -> bytes | None:
    """A packet that no longer tells of pictures behind the picture; None if nothing safe is left."""
    if not announces_more(xmp):
        return xmp
    document = _parse(xmp)
    if document is None:
        return None
    _drop(document, lambda space, name: space in _ANNOUNCING or (space == _CAMERA and name.startswith(_FILM)))
    _drop_unused_namespaces(document, _ANNOUNCING)
    return _packet(document)


def without_thumbnails(xmp: bytes) -> bytes | None:
    """A packet without pictures of the picture; None if nothing safe is left."""
    if b"Thumbnails" not in _narrow(xmp):
        return xmp
    document = _parse(xmp)
    if document is None:
        return None
    _drop(document, lambda space, name: space == _XMP and name == "Thumbnails")
    return _packet(document)


def extended_guid(xmp: bytes) -> str | None:
    """The name of the extended packet that a packet asks for."""
    document = _parse(xmp) if _EXTENDED.encode() in _narrow(xmp) else None
    for element in _elements(document) if document else ():
        if element.namespaceURI == _NOTE and element.localName == _EXTENDED:
            return _text(element).strip()
        if element.hasAttributeNS(_NOTE, _EXTENDED):
            return str(element.getAttributeNS(_NOTE, _EXTENDED)).strip()
    return None


def merged(main: bytes, extended: bytes | None) -> bytes | None:
    """A packet with what was moved into an extended one; without the mention of it where that is None.

    Returns:
        None if one of the two cannot be parsed.
    """
    document = _parse(main)
    if document is None:
        return None
    _drop(document, lambda space, name: space == _NOTE and name == _EXTENDED)
    if extended is not None:
        other = _parse(extended)
        target, source = _rdf(document), _rdf(other) if other else None
        if target is None or source is None:
            return None
        for child in list(source.childNodes):
            target.appendChild(_with_namespaces(document.importNode(child, True), source))
    return _packet(document)


def split(xmp: bytes, limit: int) -> tuple[bytes, bytes] | None:
    """A packet of at most ``limit`` bytes and the extended one with all that it has no room for.

    Returns:
        None if it cannot be parsed.
    """
    document = _parse(xmp)
    rdf = _rdf(document) if document else None
    if document is None or rdf is None:
        return None
    for comment in [node for node in _nodes(document) if node.nodeType == node.COMMENT_NODE]:
        comment.parentNode.removeChild(comment)
    moved = [child for child in rdf.childNodes if child.nodeType == child.ELEMENT_NODE]
    small = _skeleton(rdf)
    properties = [
        (description, child)
        for description in moved
        for child in list(description.childNodes)
        if child.nodeType == child.ELEMENT_NODE
    ]
    sizes = {child: len(child.toxml().encode()) for _, child in properties}
    room = limit - len(_packet(small)) - 4096
    kept: dict[Element, Element] = {}
    target = _rdf(small)
    assert target is not None
    for description, child in sorted(properties, key=lambda pair: sizes[pair[1]]):
        if sizes[child] > room:
            break
        if description not in kept:
            shell = small.importNode(description, False)
            for name in [
                name for name in list(shell.attributes.keys()) if not name.startswith(("xmlns", "rdf:about"))
            ]:
                shell.removeAttribute(name)
            kept[description] = target.appendChild(shell)
            room -= len(shell.toxml().encode())
        room -= sizes[child]
        kept[description].appendChild(small.importNode(child, True))
        description.removeChild(child)
    root: Element = document.documentElement
    extended = root.toxml().encode()
    guid = hashlib.md5(extended, usedforsecurity=False).hexdigest().upper()
    mention = small.createElementNS(_RDF, "rdf:Description")
    mention.setAttribute("xmlns:rdf", _RDF)
    mention.setAttribute("rdf:about", "")
    mention.setAttribute("xmlns:xmpNote", _NOTE)
    mention.setAttribute(f"xmpNote:{_EXTENDED}", guid)
    target.appendChild(mention)
    packet = _packet(small)
    return (packet, extended) if len(packet) <= limit else None


def _narrow(xmp: bytes) -> bytes:
    """For searches of ASCII in UTF-8, UTF-16 and UTF-32 alike."""
    return xmp.replace(b"\0", b"") if b"\0" in xmp[:8] else xmp


def _parse(xmp: bytes) -> Document | None:
    """A packet's document; None for what is none, and for one with a document type, which XMP never has."""
    if b"<!DOCTYPE" in _narrow(xmp) or b"<!ENTITY" in _narrow(xmp):
        return None
    try:
        document = minidom.parseString(xmp.rstrip(b"\0 \n\r\t"))
    except (ExpatError, ValueError, LookupError, RecursionError, UnicodeError):
        return None
    return document if document.documentElement is not None and _is_shallow(document) else None


def _is_shallow(document: Document) -> bool:
    """True if it is nested no deeper than can be copied and written by recursion."""
    level: list[Node] = [document]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in node.childNodes]
    return not level


def _packet(document: Document) -> bytes:
    root: Element = document.documentElement
    return f"{_HEAD}{root.toxml()}{_TAIL}".encode()


def _nodes(node: Node) -> Iterator[Node]:
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(current.childNodes)


def _elements(document: Document) -> Iterator[Element]:
    return (node for node in _nodes(document) if node.nodeType == node.ELEMENT_NODE)


def _drop(document: Document, unwanted: Callable[[str | None, str], bool]) -> None:
    """Remove elements and attributes that are unwanted by namespace and name."""
    for element in list(_elements(document)):
        if unwanted(element.namespaceURI, element.localName) and element.parentNode is not None:
            element.parentNode.removeChild(element)
            continue
        for attribute in list(element.attributes.values()):
            if unwanted(attribute.namespaceURI, attribute.localName):
                element.removeAttributeNode(attribute)


def _drop_unused_namespaces(document: Document, spaces: Iterable[str]) -> None:
    elements = list(_elements(document))
    used = {element.namespaceURI for element in elements}
    used |= {a.namespaceURI for element in elements for a in element.attributes.values()}
    for element in elements:
        for attribute in list(element.attributes.values()):
            is_declaration = attribute.name.startswith("xmlns")
            if is_declaration and attribute.value in spaces and attribute.value not in used:
                element.removeAttributeNode(attribute)


def _rdf(document: Document | None) -> Element | None:
    found = document.getElementsByTagNameNS(_RDF, "RDF") if document else []
    return found[0] if found else None


def _text(element: Element) -> str:
    return "".join(node.data for node in element.childNodes if node.nodeType == node.TEXT_NODE)


def _with_namespaces(node: Node, source: Element) -> Node:
    """A node that carries the prefixes which its former ancestors declared."""
    ancestor: Node | None = source
    while ancestor is not None and node.nodeType == node.ELEMENT_NODE:
        for attribute in list(ancestor.attributes.values()) if ancestor.attributes else ():
            if attribute.name.startswith("xmlns") and not node.hasAttribute(attribute.name):
                node.setAttribute(attribute.name, attribute.value)
        ancestor = ancestor.parentNode
    return node


def _skeleton(rdf: Element) -> Document:
    """The same nest of elements with nothing in rdf:RDF."""
    document = Document()
    inner: Node = document.importNode(rdf, False)
    node = rdf.parentNode
    while node is not None and node.nodeType == node.ELEMENT_NODE:
        outer = document.importNode(node, False)
        outer.appendChild(inner)
        inner, node = outer, node.parentNode
    document.appendChild(inner)
    return document
