"""Which defense stands on which others' models, and the mistakes that can be made in saying so."""

from collections.abc import Iterator, Mapping

from tradeoff.core.plugins import constant, defines, module_names
from tradeoff.core.schema import BadParams, Section, unknown
from tradeoff.core.settings import Axes, ThreatSettings


def roles(defense: str) -> tuple[str, ...]:
    """The roles of other cells' models that a defense needs, such as ("natural", "robust")."""
    return tuple(constant("defenses", defense, "BASES", ()))


def list_of(defense: str) -> str:
    """The list of study.trained that a defense belongs in: alone, on_natural_and_robust."""
    return f"on_{'_and_'.join(roles(defense))}" if roles(defense) else "alone"


def trains(defense: str) -> bool:
    """Whether a defense has weights of its own; others put their bases' networks together.

    A name that no module has any more counts as one that trained.
    """
    exists = defense in module_names("defenses", "Knobs")
    return not exists or defines("defenses", defense, "training_loss")


def classifier(defense: str) -> str:
    """The classifier that a defense's networks make."""
    return str(constant("defenses", defense, "CLASSIFIER", "plain"))


def network_count(defense: str) -> int:
    """How many networks a defense's model is made of."""
    if not trains(defense):
        return len(roles(defense))
    return int(constant("defenses", defense, "NETWORKS", 1))


def certificate(defense: str) -> str | None:
    """The certificate that a defense's classifier can be given: its own, or that of any network."""
    anyones = "interval" if classifier(defense) == "plain" else None
    name: str | None = constant("defenses", defense, "CERTIFICATE", anyones)
    return name


def check(axes: Axes, threats: dict[str, ThreatSettings], file: str) -> None:
    """Refuse a study in which something stands on nothing.

    Args:
        threats: of each data set of the study.

    Raises:
        BadParams: names the key of the study and what should be there.
    """
    faults = (_faults_of_lists, _faults_of_bases, _faults_of_proofs, _faults_of_networks)
    for fault in (fault for faults_of in faults for fault in faults_of(axes)):
        raise BadParams(f"{file}: study.{fault}")
    for dataset, threat in threats.items():
        for defense in axes.certified:
            proof = str(certificate(defense))
            norms = constant("certificates", proof, "NORMS", ())
            if threat.norm not in norms:
                raise BadParams(
                    f"{file}: datasets.{dataset}.threat.norm: is {threat.norm}; the certificate "
                    f"{proof} of {defense} knows {', '.join(norms)}"
                )


def check_shared(axes: Axes, knobs: Mapping[str, Section], file: str) -> None:
    """Refuse a defense whose SHARED knobs differ from those of a base.

    Raises:
        BadParams: names the knob and what it should be.
    """
    for defense in axes.listed:
        for knob in constant("defenses", defense, "SHARED", ()):
            for base in (axes.bases[role] for role in roles(defense)):
                own, wanted = (getattr(knobs[name], knob, None) for name in (defense, base))
                if own != wanted:
                    raise BadParams(f"{file}: {defense}.{knob}: is {own}; {base} has {wanted}")


def _faults_of_lists(axes: Axes) -> Iterator[str]:
    for name, defenses in axes.trained.items():
        for defense in defenses:
            if list_of(defense) != name:
                yield (
                    f"trained.{name}: has {defense}, which belongs in {list_of(defense)}: it "
                    f"stands on {' and '.join(roles(defense)) or 'no other model'}"
                )
    for defense in axes.defenses:
        if defense not in axes.listed:
            yield f"trained.{list_of(defense)}: lacks {defense}, which study.defenses has"


def _faults_of_bases(axes: Axes) -> Iterator[str]:
    for defense in axes.listed:
        needs_networks = not trains(defense) or constant("defenses", defense, "START")
        if not trains(defense) and not roles(defense):
            yield f"trained.alone: has {defense}, which trains nothing and has no base's networks"
        for role in roles(defense):
            base: str | None = axes.bases.get(role)
            if base is None:
                yield f"bases: lacks the role {role}, on which {defense} stands"
            elif role in _roles_below(base, axes):
                yield f"bases.{role}: is {base}, which stands on {role} itself"
            elif base not in axes.listed:
                yield f"trained.{list_of(base)}: lacks {base}, the {role} base of {defense}"
            elif needs_networks and classifier(base) != "plain":
                yield (
                    f"bases.{role}: is {base}, whose classifier is {classifier(base)}; "
                    f"{defense} needs a base of one plain network"
                )


def _roles_below(defense: str, axes: Axes, seen: tuple[str, ...] = ()) -> set[str]:
    """All roles that a defense stands on, those of its bases included."""
    below = set(roles(defense))
    for role in below - set(seen):
        if role in axes.bases:
            below |= _roles_below(axes.bases[role], axes, (*seen, role))
    return below


def _faults_of_proofs(axes: Axes) -> Iterator[str]:
    for defense in axes.certified:
        proof = certificate(defense)
        if defense not in axes.defenses:
            yield f"certified: has {defense}, which study.defenses lacks"
        elif proof is None:
            yield f"certified: has {defense}, whose file names no CERTIFICATE"
        elif proof not in module_names("certificates", "certify"):
            yield f"certified: {unknown(proof, module_names('certificates', 'certify'))}"
        elif classifier(defense) not in constant("certificates", proof, "CLASSIFIERS", ()):
            kind = classifier(defense)
            yield f"certified: has {defense}; {proof} certifies no {kind} classifier"
        elif networks := constant("certificates", proof, "NETWORKS"):
            for network in axes.architectures:
                if network not in networks:
                    yield (
                        f"certified: has {defense}, which has a proof on the architecture "
                        f"{' or '.join(networks)} alone; study.architectures has {network}"
                    )


def _faults_of_networks(axes: Axes) -> Iterator[str]:
    """Of defenses that train on bounds, which know no BatchNorm and no dropout in train mode."""
    able = [name for name in module_names("archs", "build") if _trains_on_bounds("archs", name)]
    for defense in axes.listed:
        for network in axes.architectures:
            if _trains_on_bounds("defenses", defense) and network not in able:
                yield (
                    f"architectures: has {network}, for which {defense} knows no bounds in train "
                    f"mode; it can train {', '.join(able)}, whose files say TRAINS_ON_BOUNDS"
                )


def _trains_on_bounds(folder: str, name: str) -> bool:
    return bool(constant(folder, name, "TRAINS_ON_BOUNDS", False))
