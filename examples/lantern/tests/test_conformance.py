from dadkit.testing import (
    ContextSamplerConformance,
    NormalizerConformance,
    PluginConformance,
    StudentConformance,
    TeacherConformance,
)


class TestHaze(TeacherConformance):
    component = "lantern/haze"


class TestHourglass(StudentConformance):
    component = "lantern/hourglass"
    options = {"width": 8}


class TestDeciles(NormalizerConformance):
    component = "lantern/deciles"


class TestCentred(ContextSamplerConformance):
    component = "lantern/centred"


class TestPackage(PluginConformance):
    component = "lantern"
