"""What LIDC-IDRI's readers marked: from their XML files to nodules on the slices of a CT.

A file has up to four reading sessions; in each a reader outlined nodules on the slices, and rated those of 3 mm or
more. Nothing says which marks are of the same nodule, nor is the order of readers the same in all files.
`tfdisent/datasets/lidc.py` says what is decided about both, and uses this.
"""

import pathlib
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

# Ratings with their highest value; the lowest is 1.
RATINGS = {
    "subtlety": 5,
    "internalStructure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}
MALIGNANCY = list(RATINGS).index("malignancy")


class Nodule(NamedTuple):
    """What the readers agree on about one nodule.

    `ratings` (9,) are medians, NaN where all readers lack it. `planes` has for each slice that the consensus touches
    the file, the index of the slice, and rows and columns (2, N) of its pixels.
    """

    number: int
    ratings: np.ndarray
    num_readers: int
    diameter: float  # millimetres, the largest in a slice
    planes: tuple[tuple[pathlib.Path, int, np.ndarray], ...]


class _Mark(NamedTuple):
    """One reader's outline of one nodule of 3 mm or more.

    `contours` are (SOPInstanceUID, z, whether it is the nodule or a hole, points (N, 2) as x and y). `planes` are, once
    it is placed, for each index of a slice its pixels (2, N).
    """

    reader: int
    ratings: np.ndarray
    contours: tuple[tuple[str, float, bool, np.ndarray], ...]
    planes: dict[int, np.ndarray]


class Reading(NamedTuple):
    """All marks on one series, and how many of their ratings were out of range."""

    path: pathlib.Path
    marks: list[_Mark]
    num_missing: int

    def agrees_with(self, other: "Reading") -> bool:
        """Whether both hold the same marks, whatever else their files hold."""
        return len(self.marks) == len(other.marks) and all(map(_same_mark, self.marks, other.marks))


class Slice(NamedTuple):
    path: pathlib.Path
    z: float
    number: int
    uid: str
    spacing: tuple[float, float]
    shape: tuple[int, int]


class Series(NamedTuple):
    """One CT series; `name` is the subject's, numbered where it has several. `problem` says why it cannot be used."""

    uid: str
    subject: str
    name: str
    slices: list[Slice]
    problem: str = ""

    def sorted_slices(self) -> tuple[list[Slice], np.ndarray]:
        """Slices by position, of several at one that of the lowest InstanceNumber, and the spacing (3,) in millimetres
        along y, x, z.
        """
        first = self.slices[0]
        kept = {}
        for one in sorted(self.slices, key=lambda one: (one.number, one.path)):
            kept.setdefault(round(one.z, 3), one)
        slices = sorted(kept.values(), key=lambda one: one.z)
        step = float(np.median(np.diff([one.z for one in slices]))) if len(slices) > 1 else 1.0
        return slices, np.array([*first.spacing, step])

    def positions(self, slices: list[Slice]) -> dict[str, int]:
        """Index of the slice at the position of each file, also of those that were left out."""
        heights = {round(one.z, 3): index for index, one in enumerate(slices)}
        return {one.uid: heights[round(one.z, 3)] for one in self.slices}


def _same_mark(one: _Mark, other: _Mark) -> bool:
    return (
        one.reader == other.reader
        and np.array_equal(one.ratings, other.ratings, equal_nan=True)
        and len(one.contours) == len(other.contours)
        and all(
            a[:3] == b[:3] and np.array_equal(a[3], b[3]) for a, b in zip(one.contours, other.contours, strict=True)
        )
    )


def read_xml(path: pathlib.Path) -> tuple[str, Reading] | None:
    """The series and its reading; None if the file is of a chest film or something else.

    Raises:
        ValueError: it is not XML, declares a document type, or lacks what a reading has.
    """
    root = _parsed_xml(path)
    if root.tag != "LidcReadMessage":
        return None
    names = ("seriesinstanceuid", "ctseriesinstanceuid")
    uids = [
        (element.text or "").strip()
        for header in root.findall("ResponseHeader")
        for element in header
        if element.tag.lower() in names
    ]
    if not any(uids):
        raise ValueError("its ResponseHeader names no SeriesInstanceUid")
    marks, num_missing = [], 0
    for reader, session in enumerate(root.findall("readingSession")):
        for nodule in session.findall("unblindedReadNodule"):
            characteristics = nodule.find("characteristics")
            if characteristics is None or not len(characteristics):
                continue  # smaller than 3 mm
            ratings = np.full(len(RATINGS), np.nan)
            for index, (name, highest) in enumerate(RATINGS.items()):
                text = characteristics.findtext(name)
                rating = int(text) if text and text.strip() else 0
                if 1 <= rating <= highest:
                    ratings[index] = rating
                else:
                    num_missing += 1
            contours = tuple(_contour(roi) for roi in nodule.findall("roi"))
            marks.append(_Mark(reader, ratings, contours, {}))
    return next(filter(None, uids)), Reading(path, marks, num_missing)


def nodules_of(
    series: Series, reading: Reading, min_readers: int, agreement: float
) -> tuple[list[Nodule], np.ndarray, int]:
    """Nodules of a series that so many readers marked and on whose malignancy one said something, from below to above;
    the spacing (3,) in millimetres along y, x and z; the number of slices.

    Raises:
        ValueError: a contour outside of the slices.
    """
    slices, spacing = series.sorted_slices()
    marks = [_placed(mark, slices, spacing, series, reading.path) for mark in reading.marks]
    nodules = []
    for group in _groups([mark for mark in marks if mark.planes], spacing):
        num_readers = len({mark.reader for mark in group})
        if num_readers < min_readers:
            continue
        planes = _consensus(group, agreement * num_readers)
        ratings = _medians([mark.ratings for mark in group])
        if planes and not np.isnan(ratings[MALIGNANCY]):
            files = tuple((slices[index].path, index, planes[index]) for index in sorted(planes))
            diameter = max(_diameter(pixels, spacing) for pixels in planes.values())
            nodules.append(Nodule(len(nodules), ratings, num_readers, diameter, files))
    return nodules, spacing, len(slices)


def _contour(roi: ElementTree.Element) -> tuple[str, float, bool, np.ndarray]:
    points = [(int(edge.findtext("xCoord", "")), int(edge.findtext("yCoord", ""))) for edge in roi.findall("edgeMap")]
    z = float(roi.findtext("imageZposition", ""))
    if not (points and np.isfinite(z) and max(map(max, points)) < 2**15 and min(map(min, points)) >= 0):
        raise ValueError("a contour lacks points or has them out of range")
    is_nodule = roi.findtext("inclusion", "TRUE").strip().upper() != "FALSE"
    return (roi.findtext("imageSOP_UID") or "").strip(), z, is_nodule, np.array(points)


def _parsed_xml(path: pathlib.Path) -> ElementTree.Element:
    """The root of an XML file, names without their namespace. Document types, and with them entities that could grow
    without bounds or name other files, are refused.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate(namespace_separator="}")

    def refuse(*_):
        raise ValueError("it declares a document type, which readers' files do not")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, _: builder.start(name.rpartition("}")[2], {})
    parser.EndElementHandler = lambda name: builder.end(name.rpartition("}")[2])
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return builder.close()


def _placed(
    mark: _Mark,
    slices: list[Slice],
    spacing: np.ndarray,
    series: Series,
    path: pathlib.Path,
) -> _Mark:
    """The mark with the pixels of each slice. What was outlined on a missing slice is left out."""
    indices = series.positions(slices)
    heights = np.array([one.z for one in slices])
    inside, holes = defaultdict(set), defaultdict(set)
    for uid, z, is_nodule, points in mark.contours:
        index = indices.get(uid)
        if index is None:
            index = int(np.abs(heights - z).argmin())
            if abs(heights[index] - z) > min(0.1, spacing[2] / 2):
                continue
        height, width = slices[index].shape
        if points[:, 0].max() >= width or points[:, 1].max() >= height:
            raise ValueError(
                f"{path} has a contour outside of the {height} x {width} pixels of {slices[index].path}. Get both "
                "again."
            )
        interior, edge = _filled(points)
        if is_nodule:
            inside[index] |= interior
        else:
            holes[index] |= interior | edge  # a hole's contour lies outside of the nodule as well
    planes = {}
    for index, pixels in inside.items():
        if pixels := sorted(pixels - holes[index]):
            planes[index] = np.array(pixels).T
    return mark._replace(planes=planes, contours=())


def _filled(points: np.ndarray) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """(row, column) of the pixels inside a closed contour (N, 2) of x and y, and of those on it."""
    from skimage import draw

    rows, columns = points[:, 1], points[:, 0]
    closed = np.append(rows, rows[0]), np.append(columns, columns[0])
    edge = set()
    for start in range(len(rows)):
        line = draw.line(closed[0][start], closed[1][start], closed[0][start + 1], closed[1][start + 1])
        edge.update(zip(*(axis.tolist() for axis in line), strict=True))
    area = set(zip(*(axis.tolist() for axis in draw.polygon(rows, columns)), strict=True))
    return area - edge, edge


def _groups(marks: list[_Mark], spacing: np.ndarray) -> list[list[_Mark]]:
    """Marks that are of one nodule, nodules from below to above."""
    from scipy.sparse import csgraph
    from scipy.spatial import cKDTree

    if not marks:
        return []
    clouds = [
        np.concatenate([np.insert(pixels.T, 2, z, axis=1) for z, pixels in mark.planes.items()]) * spacing
        for mark in marks
    ]
    trees = [cKDTree(cloud) for cloud in clouds]
    # Pixels of marks that touch are a step apart; from there on there is room between them.
    distances = np.zeros((len(marks), len(marks)))
    for i, tree in enumerate(trees):
        for j in range(i):
            distances[i, j] = distances[j, i] = tree.query(clouds[j])[0].min()

    def parts(members: np.ndarray, tolerance: float) -> list[np.ndarray]:
        near = distances[np.ix_(members, members)] <= tolerance
        count, found = csgraph.connected_components(near, directed=False)
        groups = [members[found == part] for part in range(count)]
        split = []
        for group in groups:
            readers = [marks[member].reader for member in group]
            if len(set(readers)) < len(readers) and tolerance > 0.1:
                split += parts(group, tolerance * 0.9)
            else:
                split.append(group)
        return split

    groups = parts(np.arange(len(marks)), float(spacing.max()))
    groups.sort(key=lambda group: tuple(np.concatenate([clouds[i] for i in group]).mean(0)[::-1]))
    return [[marks[member] for member in group] for group in groups]


def _consensus(marks: list[_Mark], num_agreeing: float) -> dict[int, np.ndarray]:
    """Pixels (2, N) by slice that at least so many readers have inside of their marks."""
    votes = defaultdict(set)
    for mark in marks:
        for index, pixels in mark.planes.items():
            for row, column in pixels.T.tolist():
                votes[index, row, column].add(mark.reader)
    planes = defaultdict(list)
    for (index, row, column), readers in votes.items():
        if len(readers) >= num_agreeing:
            planes[index].append((row, column))
    return {index: np.array(sorted(pixels)).T for index, pixels in planes.items()}


def _medians(ratings: list[np.ndarray]) -> np.ndarray:
    """(9,) medians over the readers that gave each rating, NaN where none did."""
    columns = np.array(ratings).T
    given = [column[~np.isnan(column)] for column in columns]
    return np.array([np.median(column) if len(column) else np.nan for column in given])


def _diameter(pixels: np.ndarray, spacing: np.ndarray) -> float:
    """The largest distance between two pixels (2, N) of a slice and their outer edges, in mm."""
    rows, columns = pixels
    ends = [
        (row, column) for row in np.unique(rows) for column in (columns[rows == row].min(), columns[rows == row].max())
    ]
    points = np.array(ends) * spacing[:2]
    return float(np.sqrt(((points[:, None] - points) ** 2).sum(-1)).max() + spacing[:2].mean())
