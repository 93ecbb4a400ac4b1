"""What people call things, as groups of ImageNet's thousand classes.

The classes are kinds (118 dogs, 22 cars and lorries); people ask for a dog. Evidence for a group is
the sum of that for its classes. Some things have no class of their own and are told by what is
seen with them: people by clothes, snow by skis, a road by what drives on it.
"""

from __future__ import annotations

from functools import lru_cache

_GROUPS = """
fish: 0-6 389-397
shark: 2-4
ray: 5 6
bird: 7-24 80-100 127-146
chicken; hen; rooster: 7 8
songbird; sparrow: 10-20
bird of prey; eagle; hawk; falcon: 21-23
owl: 24
parrot: 87-90
duck; water bird: 97-100 136 137 144
wading bird; heron; stork: 127-135
gull; sea bird: 139-146
swan: 100
penguin: 145
amphibian; frog; toad: 30-32
salamander; newt: 25-29
reptile: 33-68
turtle; tortoise: 33-37
lizard: 38-48
crocodile: 49 50
dinosaur: 51
snake: 52-68
spider: 70 72-77
insect; bug: 300-326
beetle: 300-307
butterfly; moth: 321-326
crab; lobster; shellfish: 118-125
snail; slug: 113-115
whale; dolphin: 147 148
seal; walrus; sea lion: 149 150
sea animal; underwater life: 0-6 107-109 115 118-125 147-150 327-329 389-397 973
animal: 0-397
farm animal; cattle; livestock: 7 8 99 339 341 345 346 348
pet: 151-268 281-285 332 333 338 1
dog; puppy: 151-268
terrier: 179-204
hunting dog; hound: 159-178
shepherd dog; sheepdog: 223-235
spaniel: 152 156 215-221
poodle: 265-267
husky; sled dog: 248-250
wolf: 269-271
fox: 277-280
cat; kitten: 281-285
big cat; wild cat: 286-293
bear: 294-297
rabbit; hare: 330-332
rodent; mouse animal; hamster; rat: 333 335-338
squirrel: 335
horse; pony: 339 603
donkey; mule: 339
zebra: 340
pig: 341-343
cow; bull; ox: 345-347
sheep; goat; ram: 348-350
deer; antelope: 351-353
camel: 354
llama; alpaca: 355
monkey: 370-382
ape: 365-369
elephant: 101 385 386
panda: 387 388
musical instrument: 401 402 420 432 486 494 513 541 546 558 566 577 579 593 594 641 642 683 684
    687 699 776 822 875 881 889
guitar: 402 420 546
piano: 579 881
violin; cello; string instrument: 486 889
trumpet; brass instrument: 513 566 875
flute; wind instrument: 432 558 683 776 699
drum; percussion: 541 822 641 642
aircraft: 404 405 417 895 908
airplane; aeroplane; jet plane: 404 895 908
helicopter: 895
hot air balloon: 417
spaceship; spacecraft: 812
rocket; missile: 657 744 812
vehicle: 407 436 444 468 511 555 569 573 575 609 627 654 656 661 665 670 671 675 705 717 734 751
    757 779 802 803 817 829 864 866 867 870 874
car; automobile: 436 468 511 609 627 656 661 717 751 817
truck; lorry: 555 569 675 717 864 867
bus; coach: 654 779 874
taxi: 468
van: 654 656 675 734 757
police car; police: 734
ambulance: 407
fire truck; fire engine: 555
motorcycle; motorbike: 665 670 518
motocross; dirt bike: 665 670 671 518
bicycle; bike: 444 671 870 880
train; railway; locomotive: 466 547 705 820 565
tram; streetcar: 829 874
tractor; farm machine: 595 730 856 866
construction machine; excavator; bulldozer; digger: 510 517 856 866 571 803
tank vehicle; army vehicle: 847 586 408
ship; boat: 403 472 484 510 554 576 625 628 780 814 871 914 833
sailing boat; sailboat; yacht: 484 780 871 914
rowing boat; canoe; kayak: 472 576 693
submarine: 833
traffic; highway; road: 436 468 656 675 717 734 779 817 867 874 919 920
street; city street; pavement: 468 705 829 874 919 920 704 637 734 779
traffic sign; road sign: 919
traffic light: 920
street lamp; lamp post: 818 920 733 557
airport: 404 908 895
harbour; port; dock: 536 510 628 718 460
bridge: 821 839 888
tunnel: 466 888 547
house; home; building: 425 449 500 624 660 663 668 698 853 858 915
church; temple; cathedral: 497 663 668 832 442
castle; palace; fortress: 483 698
tower; skyscraper: 437 900 682 442
pagoda; shrine: 832 698 663
statue; monument: 682 649 708 863 873
stadium; sports field: 781 981 560 764 429 768 805 890
shop; store; market: 415 424 454 467 509 582 788 860 865
restaurant; cafe; bar: 762 532 860
library; books; bookshelf: 453 454 624 921
fence: 489 716 912 825
wall: 825 489
door: 799 894 789
window: 904 905 799
roof: 853 858
stairs; staircase: 421
garden: 580 716 706 738 985 946
furniture: 423 453 493 495 516 520 526 532 559 564 703 765 831 846 857 894 861
table; desk: 526 532 736
chair; seat; armchair: 423 559 703 765 857 785
sofa; couch: 831
bed; bedroom: 516 520 564 750 721 697
bench: 703
cupboard; cabinet; wardrobe: 493 495 648 894
lamp: 619 846 818
curtain: 794 854 905
carpet; rug: 741 539
pillow; cushion: 721
blanket; quilt: 750
kitchen: 499 521 534 544 550 567 651 659 729 760 766 827 859 891 896 909
kitchen appliance; oven; stove: 651 827 859 891 766 544
fridge; refrigerator: 760
dishwasher; washing machine: 534 897
bathroom; toilet; bath: 435 861 896 999 794 876
sink: 896
dishes; tableware; crockery: 441 504 572 809 923 968 659
cup; mug; drinking cup: 504 968 441 647
coffee; espresso; coffee cup: 504 505 550 967 968
tea; teapot: 849 505
coffee pot: 505 849 550
glass; wine glass: 441 572
bottle: 440 720 737 898 907 901
wine: 907 966 572
beer: 440 441
pot; pan; saucepan: 567 544 909 521 469
bowl: 659 809
plate: 923
knife; spoon; cutlery: 499 910 618 813 623
food; meal; dish: 924-969
fruit: 948-957
apple: 948
citrus fruit: 950 951
vegetable: 936-946
salad; cabbage: 936 946
bread; bakery; pastry: 415 930-932
cake; dessert; ice cream; sweets: 927-929 509 960
sandwich; burger: 933 934
noodles; pasta: 959
soup: 809 925 926
meat: 467 962
mushroom: 947 991-997
flower; blossom; bouquet: 984-986 738 883
tree; forest; woods; trees: 988-990 335 970 979 634
plant; leaves; potted plant: 738 946 936 580 984-986
grass; lawn; meadow: 621 958 339 345 348 984
field; farm: 425 595 856 866 958 984 987
hay; straw: 958
corn; maize: 987
mountain; hills: 970 972 979 980
snow; winter; ice; snowy mountain: 795 802 803 537 450 970 796 248 249 250
ski; skiing; skier: 795 796 970
beach; sand; coast: 978 977 975 976 445 842
sea; ocean; waves; water: 978 976 973 977 460 914 814 628 2 147
lake; river; pond: 975 979 536 449 472 525
island; cliff: 972 976 977
waterfall; fountain; geyser: 562 974 525
desert; dunes: 977 354 68
volcano; lava: 980
fire; flame; candle; campfire: 470 862 606 556 644 626
underwater; diver; diving: 983 801 973 393
swimming; swimmer; swimming pool: 433 842 801 638 639 983
sky; clouds: 404 405 417 701 21 908 733 437
night; dark; lights at night: 818 862 819 470 845 781
sunset; dusk; sunrise: 978 976 437 975 701
clothes; clothing; garment: 399 400 411 443 445 459 474 501 568 578 601 608 610 614 617 638 639
    652 655 689 697 735 775 824 834 841 842 869 887 911
jeans; trousers; pants: 608
shirt; T-shirt: 610 841 617
sweater; knitted pullover; jumper: 474 841 911
coat; jacket: 568 617 869 501
suit; man in a suit; tie: 834 906 457 982
dress; bride; wedding: 578 601 689 982
uniform; soldier: 652 715 439 465
shoe; boots; footwear: 502 514 630 770 774 788
hat; cap: 439 452 515 433 793 808 518
helmet: 518 560 715
glasses; sunglasses: 836 837
gloves: 658
scarf: 824 552
umbrella: 879
bag; handbag; suitcase; luggage: 414 636 728 748 893
backpack; rucksack: 414
jewellery; necklace: 679
swimsuit; bikini: 445 638 639 842
mask: 643 570 796
person; man; woman; people; human: 399 400 411 433 445 457 474 501 568 578 608 610 614 617 638
    639 652 655 697 834 836 837 841 842 869 903 906 981 982 983 418
face; head; portrait; smiling face: 903 836 837 457 906 584 678 629 433
baby; child; infant: 443 516 520 529 680 431
hand; fingers: 658 418 419 813 680
crowd; audience: 819 781 762 466
doctor; nurse; hospital; medical: 617 823 845 691 830 648
fisherman; fishing: 758 391 389 0
dancing; dancer; concert; stage: 819 655 689 601 854 650
sport; game; sports match: 429 430 560 574 722 746 752 768 805 852 890 981 416 602 702
ball: 429 430 522 574 722 768 805 852 890
football; soccer: 805 560
basketball: 430
baseball: 429 981
tennis; racket: 752 852
table tennis; ping pong: 722 752
volleyball: 890
golf: 574 575
billiards; pool table: 736
gymnastics; gymnast; acrobat: 416 602 702
boxing; boxer: 777 747
weight lifting; gym: 422 543
skateboard; skating: 615 518 770
surfing; surfboard: 978 814 842
climbing: 972 970
riding a horse; rider: 339 603
computer: 527 508 620 664 673 681 782 590
laptop: 620 681
screen; monitor; television: 664 782 851 598
keyboard: 508 878 810
telephone; phone: 487 528 707
camera: 732 759
clock; watch; time: 409 530 531 892 826
printer; copier: 713 742
radio; loudspeaker; stereo: 632 754 848 482
microphone; singer: 650 819
paper; book; document: 921 681 549 692 917 916 922
pen; pencil; writing: 418 563 709 749
toy; children's toys; building blocks: 850 865 716 611 398 719
teddy bear; stuffed animal: 850
puzzle: 611 918
playground; swing: 843 476
tool; workshop: 477 587 740 783 784 491 596 606 792 814
hammer: 587
scissors; blade: 499 623
weapon; gun; rifle: 413 763 764 471 597
sword: 623 777 787
machine; engine: 595 634 739 686 856 571
wheel; tyre: 479 535
box; cardboard box; carton; package: 478 519 549 492 692
basket: 790 588
bucket; barrel: 463 427 756
trash; garbage; bin: 412 569 728
key; lock: 507 695
balloon: 417
flag; flagpole: 557
parachute; skydiver: 701
tent; camping: 672 915 797
cave: 500
rock; stone; stones: 825 972 649
spider web: 815
bubble; soap: 971 804 631
mirror: 475 794
web page; map; text: 916 921 922 918
newspaper; magazine; comic: 917 921 918
sign; signboard: 919 922
tripod: 872
"""


@lru_cache(maxsize=1)
def class_groups() -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names of groups, and the numbers of their classes, ascending; synonyms come one by one."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for line in _GROUPS.strip().replace("\n    ", " ").splitlines():
        names, _, spans = line.partition(":")
        classes: set[int] = set()
        for span in spans.split():
            first, _, last = span.partition("-")
            classes.update(range(int(first), int(last or first) + 1))
        found += [(name.strip(), tuple(sorted(classes))) for name in names.split(";")]
    return tuple(found)
