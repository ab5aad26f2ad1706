"""Cameras: one contract for files, folders, devices, network streams, pipelines and simulated worlds."""

from __future__ import annotations

from edge.cameras.camera import Camera, CameraError, CameraStatus
from edge.cameras.frame_ring import FrameRing
from edge.cameras.opening import open_camera
from edge.cameras.source import parse_source

__all__ = ["Camera", "CameraError", "CameraStatus", "FrameRing", "open_camera", "parse_source"]
