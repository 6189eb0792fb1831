"""audiocraft: conversion of its checkpoints, and audiocraft itself as a second engine."""
