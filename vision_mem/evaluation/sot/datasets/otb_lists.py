"""What OTB's lists say of its 100 targets: attributes, folders, frames that count.

Attributes are those of the benchmark's site (Y. Wu, J. Lim, M.-H. Yang, Object Tracking Benchmark,
TPAMI 2015), as the vot-toolkit's ``otb`` module repeats them; compared with the attribute lists in
the authors' own repository (jwlim/tracker_benchmark, scores_tb100), which agree for 91 of the 98
targets they name and lack single letters for the others. The MATLAB kit's ``anno/att`` files differ
for some targets, so numbers per attribute of other papers may rest on another division. Ranges of
frames are those of the kit's ``configSeqs.m`` as pytracking repeats them.
"""

from __future__ import annotations

_ATTRIBUTES = """
Basketball: IV OCC DEF OPR BC; Biker: SV OCC MB FM OPR OV LR; Bird1: DEF FM OV;
Bird2: OCC DEF FM IPR OPR; BlurBody: SV DEF MB FM IPR; BlurCar1: MB FM; BlurCar2: SV MB FM;
BlurCar3: MB FM; BlurCar4: MB FM; BlurFace: MB FM IPR; BlurOwl: SV MB FM IPR;
Board: SV MB FM OPR OV BC; Bolt: OCC DEF IPR OPR; Bolt2: DEF BC;
Box: IV SV OCC MB IPR OPR OV BC LR; Boy: SV MB FM IPR OPR; Car1: IV SV MB FM BC LR;
Car2: IV SV MB FM BC; Car24: IV SV BC; Car4: IV SV; CarDark: IV BC; CarScale: SV OCC FM IPR OPR;
ClifBar: SV OCC MB FM IPR OV BC; Coke: IV OCC FM IPR OPR BC; Couple: SV DEF FM OPR BC;
Coupon: OCC BC; Crossing: SV DEF FM OPR BC; Crowds: IV DEF BC; Dancer: SV DEF IPR OPR;
Dancer2: DEF; David: IV SV OCC DEF MB IPR OPR; David2: IPR OPR; David3: OCC DEF OPR BC;
Deer: MB FM IPR BC LR; Diving: SV DEF IPR; Dog: SV DEF OPR; Dog1: SV IPR OPR;
Doll: IV SV OCC IPR OPR; DragonBaby: SV OCC MB FM IPR OPR OV; Dudek: SV OCC DEF FM IPR OPR OV BC;
FaceOcc1: OCC; FaceOcc2: IV OCC IPR OPR; Fish: IV; FleetFace: SV DEF MB FM IPR OPR;
Football: OCC IPR OPR BC; Football1: IPR OPR BC; Freeman1: SV IPR OPR; Freeman3: SV IPR OPR;
Freeman4: SV OCC IPR OPR; Girl: SV OCC IPR OPR; Girl2: SV OCC DEF MB OPR; Gym: SV DEF IPR OPR;
Human2: IV SV MB OPR; Human3: SV OCC DEF OPR BC; Human4-2: IV SV OCC DEF; Human5: SV OCC DEF;
Human6: SV OCC DEF FM OPR OV; Human7: IV SV OCC DEF MB FM; Human8: IV SV DEF;
Human9: IV SV DEF MB FM; Ironman: IV SV OCC MB FM IPR OPR OV BC LR; Jogging-1: OCC DEF OPR;
Jogging-2: OCC DEF OPR; Jump: SV OCC DEF MB FM IPR OPR; Jumping: MB FM; KiteSurf: IV OCC IPR OPR;
Lemming: IV SV OCC FM OPR OV; Liquor: IV SV OCC MB FM OPR OV BC; Man: IV;
Matrix: IV SV OCC FM IPR OPR BC; Mhyang: IV DEF OPR BC; MotorRolling: IV SV MB FM IPR BC LR;
MountainBike: IPR OPR BC; Panda: SV OCC DEF IPR OPR OV LR; RedTeam: SV OCC IPR OPR LR;
Rubik: SV OCC IPR OPR; Shaking: IV SV IPR OPR BC; Singer1: IV SV OCC OPR;
Singer2: IV DEF IPR OPR BC; Skater: SV DEF IPR OPR; Skater2: SV DEF FM IPR OPR;
Skating1: IV SV OCC DEF OPR BC; Skating2-1: SV OCC DEF FM OPR; Skating2-2: SV OCC DEF FM OPR;
Skiing: IV SV DEF IPR OPR; Soccer: IV SV OCC MB FM IPR OPR BC; Subway: OCC DEF BC;
Surfer: SV FM IPR OPR LR; Suv: OCC IPR OV; Sylvester: IV IPR OPR;
Tiger1: IV OCC DEF MB FM IPR OPR; Tiger2: IV OCC DEF MB FM IPR OPR OV; Toy: SV FM IPR OPR;
Trans: IV SV OCC DEF; Trellis: IV SV IPR OPR BC; Twinnings: SV OPR; Vase: SV FM IPR;
Walking: SV OCC DEF; Walking2: SV OCC LR; Woman: IV SV OCC DEF MB FM OPR
"""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    name.strip(): tuple(letters.split())
    for name, _, letters in (
        entry.partition(":") for entry in _ATTRIBUTES.replace("\n", " ").split(";")
    )
}
"""Attribute letters by target, in the order of the official list."""

SECOND_TARGETS: dict[str, tuple[str, int]] = {
    "Human4-2": ("Human4", 2),
    "Jogging-1": ("Jogging", 1),
    "Jogging-2": ("Jogging", 2),
    "Skating2-1": ("Skating2", 1),
    "Skating2-2": ("Skating2", 2),
}
"""Targets in folders with several: the folder, and the number of the truth file there."""

FRAME_RANGES: dict[str, tuple[int, int]] = {
    "BlurCar1": (247, 988),
    "BlurCar3": (3, 359),
    "BlurCar4": (18, 397),
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
"""First and last image of targets whose truth does not cover all images of the folder."""

OMITTED: dict[str, int] = {"Tiger1": 5}
"""Frames, and rows of truth, that are left out in front."""
