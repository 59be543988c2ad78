"""Fleets: thousands of models from many places, audited on many cores or machines, resumable.

Rooms: `sources` find models and fetch them, `jobs` is what runs on a worker, `engine` hands jobs to
joblib and survives the death of workers, `store` keeps results by content, `index` writes what came
out, `driver` holds them together. No scheduler of our own.
"""
