from repose.engine import provenance


def test_fingerprint_follows_imports_and_leaves_other_papers_out():
    now = provenance.code_fingerprint("drpnet")
    assert {"papers/drpnet/config.py", "config/schema.py", "engine/module.py", "geometry.py"} <= now.keys()
    assert "engine/logging.py" not in now and not any(name.startswith("tables/") for name in now)
    assert all(name.startswith("papers/drpnet/") for name in now if name.startswith("papers/"))


def test_stale_names_changed_added_and_removed_files():
    then = {"code_fingerprint": {"a.py": "1", "b.py": "2", "c.py": "3"}}
    assert provenance.stale(then, {"a.py": "1", "b.py": "9", "d.py": "4"}) == ["b.py", "c.py", "d.py"]
    assert provenance.stale(then, then["code_fingerprint"]) == []


def test_machine_and_versions_in_words():
    assert provenance.hardware() and provenance.versions()["torch"]
