"""ST-GCN and ST-GCN++ written down once more, as plainly as the specification says them.

Module names are those of the toolboxes, so that `state_dict` is a checkpoint of theirs.
"""

import torch
from torch import nn

from skelbook.graph import adjacency
from skelbook.models.blocks import stage_plan


class TemporalConv(nn.Module):
    def __init__(self, narrow, wide, kernel=9, stride=1, dilation=1, norm=True):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(narrow, wide, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(wide) if norm else nn.Identity()

    def forward(self, x):
        return self.bn(self.conv(x))


class GraphConv(nn.Module):
    def __init__(self, narrow, wide, graph, plus):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(narrow, 3 * wide, 1), nn.BatchNorm2d(wide)
        self.plus, self.down = plus, None
        if plus:
            self.A = nn.Parameter(graph.clone())
            if narrow != wide:
                self.down = nn.Sequential(nn.Conv2d(narrow, wide, 1), nn.BatchNorm2d(wide))
        else:
            self.register_buffer("A", graph.clone())
            self.PA = nn.Parameter(torch.ones_like(graph))

    def forward(self, x):
        graph = self.A if self.plus else self.A * self.PA
        y = self.bn(torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (3, -1)), graph))
        if self.plus:
            y = y + (x if self.down is None else self.down(x))
        return y.relu()


class Branches(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        part, self.branches = width // 6, nn.ModuleList()
        for number in range(5):
            wide = width - 5 * part if number == 0 else part
            last = nn.MaxPool2d((3, 1), (stride, 1), (1, 0)) if number == 4 else TemporalConv(
                wide, wide, 3, stride, number + 1, norm=False)
            self.branches.append(nn.Sequential(nn.Conv2d(width, wide, 1), nn.BatchNorm2d(wide),
                                               nn.ReLU(), last))
        self.branches.append(nn.Conv2d(width, part, 1, (stride, 1)))
        self.transform = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return self.bn(self.transform(torch.cat([branch(x) for branch in self.branches], 1)))


class Block(nn.Module):
    def __init__(self, narrow, wide, stride, added, graph, plus):
        super().__init__()
        self.gcn = GraphConv(narrow, wide, graph, plus)
        self.tcn = Branches(wide, stride) if plus else TemporalConv(wide, wide, stride=stride)
        self.added, self.residual = added, None
        if added and (narrow, stride) != (wide, 1):
            self.residual = TemporalConv(narrow, wide, 1, stride)

    def forward(self, x):
        y = self.tcn(self.gcn(x))
        if self.added:
            y = y + (x if self.residual is None else self.residual(x))
        return y.relu()


class PlainGCN(nn.Module):
    """(N, M, T, V, C) -> (N, classes); `plus` for ST-GCN++, else ST-GCN."""

    def __init__(self, plus, layout, classes, channels=3, **plan):
        super().__init__()
        graph = torch.tensor(adjacency(layout, "spatial" if plus else "stgcn_spatial")).float()
        plan = stage_plan(channels, **plan)
        self.backbone, self.cls_head = nn.Module(), nn.Module()
        self.backbone.data_bn = nn.BatchNorm1d(graph.shape[-1] * channels)
        self.backbone.gcn = nn.ModuleList(Block(*row, graph, plus) for row in plan)
        self.cls_head.fc = nn.Linear(plan[-1][1], classes)

    def forward(self, x):
        N, M, T, V, C = x.shape
        x = x.permute(0, 1, 3, 4, 2).reshape(N * M, V * C, T)
        x = self.backbone.data_bn(x).view(N * M, V, C, T).permute(0, 2, 3, 1)
        for block in self.backbone.gcn:
            x = block(x)
        return self.cls_head.fc(x.mean((2, 3)).view(N, M, -1).mean(1))
