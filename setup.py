"""The list of packages: hneurons_eval/ and the top-level folders that are installed as its subpackages."""

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
