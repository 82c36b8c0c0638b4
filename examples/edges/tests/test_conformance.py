from dadkit.testing import PluginConformance, TermConformance


class TestEdgeGradient(TermConformance):
    component = "edges/gradient"


class TestPackage(PluginConformance):
    component = "edges"
