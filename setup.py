"""Lists the packages: those in hneurons_eval/, and the top-level ones that are imported as its subpackages."""

from setuptools import find_packages, setup

COMPONENTS = ("tasks", "solvers", "scorers")

setup(
    packages=[
        *find_packages(include=["hneurons_eval", "hneurons_eval.*"], exclude=["hneurons_eval.data.build"]),
        *(
            f"hneurons_eval.{package}"
            for component in COMPONENTS
            for package in find_packages(include=[component, f"{component}.*"])
        ),
    ]
)
