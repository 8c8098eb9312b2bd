"""The simulated scanners and who is scanned there: what makes one hospital's images look unlike another's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medsharp.errors import InputError, nearest


@dataclass(frozen=True)
class Scanner:
    """One simulated ultrasound machine with its presets.

    Attributes:
        hospital: Short name of the hospital; begins the file names.
        name: Name of the machine, the manifest's `device`.
        frequency_mhz: Centre frequency; attenuation and the axial pulse follow from it.
        bandwidth: Fractional -6 dB bandwidth of the pulse.
        lateral_mm: Lateral resolution (full width at half maximum) at the focus.
        focus_mm: Depth of the transmit focus.
        defocus: Growth of the lateral width per unit of relative distance from the focus.
        depth_mm: Least and greatest depth that the sonographer sets.
        width_mm: Least and greatest width of the field of view.
        dynamic_range_db: Range of echo levels between black and white.
        gain_db: Overall gain relative to glandular tissue at mid grey.
        gamma: Exponent of the grey map; above 1 is darker.
        tgc_error_db: Standard deviation of each time-gain slider from its ideal place.
        noise_db: Electronic noise at the skin relative to glandular echoes; it rises with the time gain.
        compounding: Share of the speckle that averaging over beam angles takes away, 0 to 1.
        smoothing: Share of a smoothed image in the output (speckle reduction), 0 to 1.
        sharpening: Strength of edge enhancement.
        border: Where the scan lies on the black screen: `fill`, `letterbox` or `screen`.
        overlay: Style of burned-in graphics: `plain`, `typed` or `ruler`.
        atypical: Share of patients whose lesion looks like one of the other class.
        lesion_scale: Size of the hospital's lesions relative to the phantom's median.
        jitter: Relative size of the image-to-image change of the settings.
    """

    hospital: str
    name: str
    frequency_mhz: float
    bandwidth: float
    lateral_mm: float
    focus_mm: float
    defocus: float
    depth_mm: tuple[float, float]
    width_mm: tuple[float, float]
    dynamic_range_db: float
    gain_db: float
    gamma: float
    tgc_error_db: float
    noise_db: float
    compounding: float
    smoothing: float
    sharpening: float
    border: str
    overlay: str
    atypical: float = 0.05
    lesion_scale: float = 1.0
    jitter: float = 1.0

    def adjusted(self, rng: np.random.Generator) -> Scanner:
        """Return the settings of one image: the preset as a sonographer would have turned its knobs."""
        step = self.jitter * rng.normal(size=6)
        return replace(
            self,
            frequency_mhz=self.frequency_mhz * float(np.exp(0.06 * step[0])),
            lateral_mm=self.lateral_mm * float(np.exp(0.08 * step[1])),
            focus_mm=max(11.0, self.focus_mm + 4.0 * float(step[2])),
            dynamic_range_db=max(35.0, self.dynamic_range_db + 3.0 * float(step[3])),
            gain_db=self.gain_db + 3.5 * float(step[4]),
            gamma=self.gamma * float(np.exp(0.06 * step[5])),
        )


HOSPITALS: dict[str, Scanner] = {
    scanner.hospital: scanner
    for scanner in (
        # A recent machine: wide footprint, compounded and speckle-reduced, hardly any graphics.
        Scanner(
            hospital="A",
            name="simulated linear 12 MHz, compounding",
            frequency_mhz=11.0,
            bandwidth=0.75,
            lateral_mm=0.36,
            focus_mm=17.0,
            defocus=0.55,
            depth_mm=(27.0, 38.0),
            width_mm=(38.0, 46.0),
            dynamic_range_db=54.0,
            gain_db=1.0,
            gamma=1.05,
            tgc_error_db=2.0,
            noise_db=-77.0,
            compounding=0.42,
            smoothing=0.4,
            sharpening=0.35,
            border="fill",
            overlay="plain",
        ),
        # An old machine: narrow, coarse speckle, hard contrast, text typed over the image.
        Scanner(
            hospital="B",
            name="simulated linear 9 MHz, film-era",
            frequency_mhz=8.5,
            bandwidth=0.6,
            lateral_mm=0.85,
            focus_mm=20.0,
            defocus=0.7,
            depth_mm=(34.0, 46.0),
            width_mm=(36.0, 40.0),
            dynamic_range_db=46.0,
            gain_db=0.0,
            gamma=1.0,
            tgc_error_db=2.5,
            noise_db=-68.0,
            compounding=0.0,
            smoothing=0.12,
            sharpening=0.5,
            border="letterbox",
            overlay="typed",
            atypical=0.08,
        ),
        # A mid-range machine turned down: dark, soft, with ruler and grey bar on the screen.
        Scanner(
            hospital="C",
            name="simulated linear 7 MHz, portable",
            frequency_mhz=7.0,
            bandwidth=0.55,
            lateral_mm=0.95,
            focus_mm=16.0,
            defocus=0.9,
            depth_mm=(38.0, 52.0),
            width_mm=(38.0, 40.0),
            dynamic_range_db=50.0,
            gain_db=-4.0,
            gamma=1.15,
            tgc_error_db=3.5,
            noise_db=-63.0,
            compounding=0.2,
            smoothing=0.35,
            sharpening=0.0,
            border="screen",
            overlay="ruler",
            atypical=0.12,
            lesion_scale=0.88,
        ),
    )
}


def find_scanner(hospital: str | Scanner) -> Scanner:
    """Return the scanner of a hospital.

    Raises:
        InputError: There is no such simulated hospital.
    """
    if isinstance(hospital, Scanner):
        return hospital
    try:
        return HOSPITALS[hospital]
    except KeyError:
        raise InputError(f"unknown simulated hospital '{hospital}'{nearest(hospital, HOSPITALS)}") from None
