"""An experiment: settings, the run folder, training, evaluation, export, reproduction, augmentation."""
